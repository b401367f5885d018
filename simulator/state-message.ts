/**
 * What hosts tell each other of flow state: messages of records, and acknowledgements.
 *
 *    0       1       2               6
 *   +-------+-------+---------------+---------------+---------------+-----------+---------+
 *   |version| kind 1|     epoch     |    number     | u8 names      | u8 records            |
 *   +-------+-------+---------------+---------------+  each: length |  each: kind, fields   |
 *                                                   |  and ASCII    |                       |
 *   +-------+-------+---------------+---------------+---------------+-----------------------+
 *   |version| kind 2|     epoch     | u16 count     | u32 number, count times               |
 *   +-------+-------+---------------+---------------+---------------------------------------+
 *
 * The epoch says which run of the sender's agent it was; numbers count up from 1 in each, for each
 * receiver. Records name zones and ports by index in the list of names. Every message stands alone:
 * what is larger than one is several, each acknowledged for itself.
 */
import type { Words6 } from '../packet/address6.ts'
import { type Codec, MalformedError, type Reader, type Writer } from '../packet/bytes.ts'

export const limits = {
  /** Bytes: with the tunnel's headers it fits into an underlay of IPv6's least MTU, 1280. */
  size: 1152,
  names: 255,
  records: 255,
  /** Acknowledged at once. */
  numbers: 256,
} as const

export type ZoneKind = 'port' | 'bridge' | 'router'

/** Flags of an entry, as they go over the wire. */
export const entryFlags = { replied: 1, finForward: 2, finBackward: 4, reset: 8 } as const

/** Addresses in words: one of IPv4, four of IPv6, all four of them alike. */
export type StateAddress = readonly [number] | Words6

export interface StateTuple {
  readonly src: StateAddress
  readonly dst: StateAddress
  readonly ports: number
}

/** A connection, a translation or a balancer's choice, as an entry of flow state has it. */
export interface EntryRecord {
  readonly kind: 'entry'
  readonly zoneKind: ZoneKind
  readonly zone: string
  /** Of the way there: 0 or one of the odd `keyKinds` of flow state. */
  readonly keyKind: number
  readonly protocol: number
  readonly flags: number
  /** Grows when the flags change, or another translation takes the place of one. */
  readonly version: number
  /** Since its last packet. */
  readonly ageMs: number
  /** Exterior ports that its packets came in by and left by; empty for none. */
  readonly ingress: string
  readonly egress: string
  readonly there: StateTuple
  readonly back: StateTuple
}

/** Which member the client of a sticky VIP goes to. */
export interface StickRecord {
  readonly kind: 'stick'
  readonly vip: string
  readonly member: string
  readonly client: number
  readonly ageMs: number
}

/** Asks for the state of a port, or with no port for all that the receiver shares with the asker. */
export interface FetchRecord {
  readonly kind: 'fetch'
  readonly request: number
  readonly port: string
}

/** All that was asked for has been told before. */
export interface DoneRecord {
  readonly kind: 'done'
  readonly request: number
}

export type StateRecord = EntryRecord | StickRecord | FetchRecord | DoneRecord

export type StateMessage =
  | {
      readonly kind: 'tell'
      readonly epoch: number
      readonly number: number
      readonly records: readonly StateRecord[]
    }
  | { readonly kind: 'ack'; readonly epoch: number; readonly numbers: readonly number[] }

const version = 1
const kinds = { tell: 1, ack: 2 } as const
const recordKinds = { entry: 1, stick: 2, fetch: 3, done: 4 } as const
const zoneKinds: readonly ZoneKind[] = ['port', 'bridge', 'router']
const flagIpv6 = 0x80
const headSize = 6
const tellSize = headSize + 4 + 1 + 1

/** The bytes of a record, without its names. */
function sizeOf(record: StateRecord): number {
  switch (record.kind) {
    case 'entry':
      return 16 + 2 * (4 + 8 * record.there.src.length)
    case 'stick':
      return 11
    case 'fetch':
      return 6
    case 'done':
      return 5
  }
}

function namesOf(record: StateRecord): readonly string[] {
  switch (record.kind) {
    case 'entry':
      return [record.zone, record.ingress, record.egress]
    case 'stick':
      return [record.vip, record.member]
    case 'fetch':
      return [record.port]
    case 'done':
      return []
  }
}

/** Takes the first records, at least one, that fit into one message. */
export function takeFitting(records: StateRecord[]): readonly StateRecord[] {
  const names = new Set<string>()
  let size = tellSize
  let count = 0
  for (const record of records) {
    if (count === limits.records) break
    for (const name of namesOf(record)) {
      if (names.has(name)) continue
      names.add(name)
      size += 1 + name.length
    }
    size += sizeOf(record)
    if (count > 0 && (size > limits.size || names.size > limits.names)) break
    count++
  }
  return records.splice(0, count)
}

export const stateMessage: Codec<StateMessage> = {
  name: 'flow state',

  size(message) {
    if (message.kind === 'ack') return headSize + 2 + 4 * message.numbers.length
    const names = new Set(message.records.flatMap(namesOf))
    let size = tellSize
    for (const name of names) size += 1 + name.length
    for (const record of message.records) size += sizeOf(record)
    return size
  },

  decode(reader) {
    const given = reader.u8()
    if (given !== version) throw new MalformedError(`flow state: version ${given}`)
    const kind = reader.u8()
    const epoch = reader.u32()
    if (kind === kinds.ack) return { kind: 'ack', epoch, numbers: readNumbers(reader) }
    if (kind !== kinds.tell) throw new MalformedError(`flow state: kind ${kind}`)
    const number = reader.u32()
    const names = readNames(reader)
    const count = reader.u8()
    const records: StateRecord[] = []
    for (let left = count; left > 0; left--) records.push(readRecord(reader, names))
    return { kind: 'tell', epoch, number, records }
  },

  encode(writer, message) {
    writer.u8(version)
    writer.u8(kinds[message.kind])
    writer.u32(message.epoch)
    if (message.kind === 'ack') {
      writer.u16(message.numbers.length)
      for (const number of message.numbers) writer.u32(number)
      return
    }
    writer.u32(message.number)
    const names = [...new Set(message.records.flatMap(namesOf))]
    writer.u8(names.length)
    for (const name of names) writeName(writer, name)
    writer.u8(message.records.length)
    const index = new Map(names.map((name, at) => [name, at]))
    for (const record of message.records) writeRecord(writer, record, index)
  },
}

function readNumbers(reader: Reader): readonly number[] {
  const count = reader.u16()
  if (count > limits.numbers) throw new MalformedError(`flow state: ${count} numbers`)
  return Array.from({ length: count }, () => reader.u32())
}

function readNames(reader: Reader): readonly string[] {
  return Array.from({ length: reader.u8() }, () => {
    const bytes = reader.bytes(reader.u8())
    if (bytes.some((byte) => byte > 0x7f)) throw new MalformedError('flow state: a name')
    return String.fromCharCode(...bytes)
  })
}

function writeName(writer: Writer, name: string): void {
  writer.u8(name.length)
  for (let at = 0; at < name.length; at++) writer.u8(name.charCodeAt(at) & 0x7f)
}

function readRecord(reader: Reader, names: readonly string[]): StateRecord {
  const name = (): string => {
    const found = names[reader.u8()]
    if (found === undefined) throw new MalformedError('flow state: no such name')
    return found
  }
  const kind = reader.u8()
  switch (kind) {
    case recordKinds.entry:
      return readEntry(reader, name)
    case recordKinds.stick: {
      const [vip, member] = [name(), name()]
      return { kind: 'stick', vip, member, client: reader.u32(), ageMs: reader.u32() }
    }
    case recordKinds.fetch:
      return { kind: 'fetch', request: reader.u32(), port: name() }
    case recordKinds.done:
      return { kind: 'done', request: reader.u32() }
    default:
      throw new MalformedError(`flow state: record ${kind}`)
  }
}

function readEntry(reader: Reader, name: () => string): EntryRecord {
  const zoneKind = zoneKinds[reader.u8()]
  const zone = name()
  const keyKind = reader.u8()
  if (zoneKind === undefined || keyKind > 5 || (keyKind !== 0 && (keyKind & 1) === 0))
    throw new MalformedError('flow state: a zone or key of no kind')
  const protocol = reader.u8()
  const bits = reader.u8()
  const [number, ageMs] = [reader.u32(), reader.u32()]
  const [ingress, egress] = [name(), name()]
  const isIpv6 = (bits & flagIpv6) !== 0
  const there = readTuple(reader, isIpv6)
  const back = readTuple(reader, isIpv6)
  const flags = bits & 0x0f
  return {
    kind: 'entry',
    zoneKind,
    zone,
    keyKind,
    protocol,
    flags,
    version: number,
    ageMs,
    ingress,
    egress,
    there,
    back,
  }
}

function readTuple(reader: Reader, isIpv6: boolean): StateTuple {
  const address = (): StateAddress =>
    isIpv6 ? [reader.u32(), reader.u32(), reader.u32(), reader.u32()] : [reader.u32()]
  return { src: address(), dst: address(), ports: reader.u32() }
}

function writeRecord(
  writer: Writer,
  record: StateRecord,
  index: ReadonlyMap<string, number>,
): void {
  const name = (text: string) => writer.u8(index.get(text) ?? 0)
  writer.u8(recordKinds[record.kind])
  switch (record.kind) {
    case 'entry':
      writer.u8(zoneKinds.indexOf(record.zoneKind))
      name(record.zone)
      writer.u8(record.keyKind)
      writer.u8(record.protocol)
      writer.u8(record.flags | (record.there.src.length === 4 ? flagIpv6 : 0))
      writer.u32(record.version)
      writer.u32(record.ageMs)
      name(record.ingress)
      name(record.egress)
      for (const { src, dst, ports } of [record.there, record.back])
        for (const word of [...src, ...dst, ports]) writer.u32(word)
      return
    case 'stick':
      name(record.vip)
      name(record.member)
      writer.u32(record.client)
      writer.u32(record.ageMs)
      return
    case 'fetch':
      writer.u32(record.request)
      name(record.port)
      return
    case 'done':
      writer.u32(record.request)
  }
}
