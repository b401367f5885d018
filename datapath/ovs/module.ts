/** The kernel module as objects: its datapath and vports, asked one at a time. */
import { DatapathError } from '../datapath.ts'
import {
  type Attribute,
  decodeAttributes,
  findAttribute,
  NetlinkError,
  type NetlinkMessage,
  NetlinkSocket,
  PayloadWriter,
  payloadText,
  payloadU32,
} from '../netlink.ts'
import { hostU32 } from './key.ts'
import {
  control,
  datapathAttr,
  datapathCommand,
  datapathVersion,
  featureUnaligned,
  flowAttr,
  flowCommand,
  genericProtocol,
  messageHeader,
  vportAttr,
  vportCommand,
  vportNetdev,
} from './protocol.ts'

/** Ids of the module's generic netlink families, which differ from boot to boot. */
export interface Families {
  readonly datapath: number
  readonly vport: number
  readonly flow: number
  readonly packet: number
  /** 0 where the module has no meters. */
  readonly meter: number
}

export interface ModuleVport {
  readonly number: number
  readonly type: number
  readonly name: string
  readonly ifindex: number
}

/** What the datapath has counted since it was made. */
export interface ModuleStats {
  readonly misses: number
  readonly lost: number
}

/**
 * A flow as the kernel shows it. A part stands in `memory` from the first figure up to its end; both
 * are 0 for what is not there.
 */
export interface ModuleFlow {
  readonly memory: Uint8Array
  readonly ufid: number
  readonly ufidEnd: number
  readonly key: number
  readonly keyEnd: number
  readonly mask: number
  readonly maskEnd: number
  readonly actions: number
  readonly actionsEnd: number
  readonly packets: number
  readonly bytes: number
  /** CLOCK_MONOTONIC of the last packet; 0 when there has been none. */
  readonly usedMs: number
}

/** One of the module's datapaths. */
export class Module {
  readonly families: Families
  readonly datapath: number
  readonly #socket: NetlinkSocket

  /** Makes the datapath, or takes the one there is. @throws DatapathError */
  constructor(name: string) {
    this.#socket = new NetlinkSocket(genericProtocol)
    try {
      this.families = findFamilies(this.#socket)
      this.datapath = this.#create(name)
      this.#setUp(name)
    } catch (error) {
      this.#socket.close()
      throw asDatapathError(error)
    }
  }

  /** Takes an interface in, or makes an internal one; `number` must be free. @throws DatapathError */
  createVport(
    name: string,
    number: number | undefined,
    upcallPid: number,
    type: number = vportNetdev,
  ): ModuleVport {
    const payload = this.payload(vportCommand.create)
    if (number !== undefined) payload.attributeU32(vportAttr.number, number)
    payload.attributeU32(vportAttr.type, type).attributeText(vportAttr.name, name)
    payload.attributeU32(vportAttr.upcallPid, upcallPid)
    this.change(`take in ${name}`, this.families.vport, payload)
    const asked = this.payload(vportCommand.get).attributeText(vportAttr.name, name).finish()
    const [vport] = this.#guard(() =>
      this.#socket.query(`find vport ${name}`, this.families.vport, asked).map(readVport),
    )
    if (vport === undefined) throw new DatapathError('ENODEV', `vport ${name} has gone again`)
    return vport
  }

  /** Says where a vport's packets go that no flow matches. @throws DatapathError */
  directVport(number: number, upcallPid: number): void {
    const payload = this.payload(vportCommand.set).attributeU32(vportAttr.number, number)
    payload.attributeU32(vportAttr.upcallPid, upcallPid)
    this.change(`set up vport ${number}`, this.families.vport, payload)
  }

  /** Unknown numbers are no error. @throws DatapathError */
  removeVport(number: number): void {
    const payload = this.payload(vportCommand.remove).attributeU32(vportAttr.number, number)
    this.change(`remove vport ${number}`, this.families.vport, payload, ['ENODEV'])
  }

  /** All vports but the module's own one. @throws DatapathError */
  vports(): readonly ModuleVport[] {
    const payload = this.payload(vportCommand.get).finish()
    return this.#guard(() => this.#socket.dump('list vports', this.families.vport, payload))
      .map(readVport)
      .filter(({ number }) => number !== 0)
  }

  /** @throws DatapathError */
  stats(): ModuleStats {
    const stats = findAttribute(this.attributes(), datapathAttr.stats)
    if (stats === undefined || stats.length < 32) return { misses: 0, lost: 0 }
    return { misses: readU64(stats, 8), lost: readU64(stats, 16) }
  }

  /** What the kernel says of the datapath. @throws DatapathError */
  attributes(): readonly Attribute[] {
    const payload = this.payload(datapathCommand.get, datapathVersion)
    const [reply] = this.query('read the datapath', this.families.datapath, payload)
    return reply === undefined ? [] : attributesOf(reply)
  }

  /** Every flow with all its parts. @throws DatapathError */
  flows(): readonly ModuleFlow[] {
    const payload = this.payload(flowCommand.get).finish()
    return this.#guard(() =>
      this.#socket.dumpAs('list flows', this.families.flow, payload, readFlow),
    )
  }

  /** Removes a flow by what the kernel showed of it. @throws DatapathError */
  removeFlow({ memory, ufid, ufidEnd, key, keyEnd }: ModuleFlow): void {
    const payload = this.payload(flowCommand.remove)
    if (ufid !== 0) payload.attribute(flowAttr.ufid, memory.subarray(ufid, ufidEnd))
    else payload.attribute(flowAttr.key, memory.subarray(key, keyEnd))
    this.change('remove a flow', this.families.flow, payload, ['ENOENT'])
  }

  close(): void {
    this.#socket.close()
  }

  #create(name: string): number {
    const payload = header(datapathCommand.create, datapathVersion, 0)
    payload.attributeText(datapathAttr.name, name).attributeU32(datapathAttr.upcallPid, 0)
    payload.attributeU32(datapathAttr.userFeatures, featureUnaligned)
    this.change(`create datapath ${name}`, this.families.datapath, payload, ['EEXIST'])
    const index = findDatapath(this.#socket, this.families.datapath, name)
    if (index === undefined)
      throw new DatapathError('ENODEV', `datapath ${name} cannot be made: ${name} is a link`)
    return index
  }

  /** One that was there may have been somebody else's, with other features. */
  #setUp(name: string): void {
    const payload = this.payload(datapathCommand.set, datapathVersion)
    payload.attributeU32(datapathAttr.userFeatures, featureUnaligned)
    this.change(`set up datapath ${name}`, this.families.datapath, payload)
  }

  /** Starts a request about this datapath. */
  payload(command: number, version = 1): PayloadWriter {
    return header(command, version, this.datapath)
  }

  /** Asks one thing; nothing comes back of what `absent` names. @throws DatapathError */
  query(
    name: string,
    family: number,
    payload: PayloadWriter,
    absent: readonly string[] = [],
  ): readonly NetlinkMessage[] {
    try {
      return this.#socket.query(name, family, payload.finish())
    } catch (error) {
      if (error instanceof NetlinkError && absent.includes(error.code)) return []
      throw asDatapathError(error)
    }
  }

  /** Has the kernel do something; errors that are `harmless` are none. @throws DatapathError */
  change(
    name: string,
    type: number,
    payload: PayloadWriter,
    harmless: readonly string[] = [],
  ): void {
    try {
      this.#socket.change(name, type, 0, payload.finish())
    } catch (error) {
      if (error instanceof NetlinkError && harmless.includes(error.code)) return
      throw asDatapathError(error)
    }
  }

  #guard<T>(run: () => T): T {
    try {
      return run()
    } catch (error) {
      throw asDatapathError(error)
    }
  }
}

/** Takes the datapath of this name away, with its flows; the interfaces stay. */
export function removeDatapath(name: string): boolean {
  const socket = new NetlinkSocket(genericProtocol)
  try {
    const { datapath } = findFamilies(socket)
    const index = findDatapath(socket, datapath, name)
    if (index === undefined) return false
    const payload = header(datapathCommand.remove, datapathVersion, index).finish()
    socket.change(`remove datapath ${name}`, datapath, 0, payload)
    return true
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return false
    throw asDatapathError(error)
  } finally {
    socket.close()
  }
}

function findDatapath(socket: NetlinkSocket, family: number, name: string): number | undefined {
  const payload = header(datapathCommand.get, datapathVersion, 0)
    .attributeText(datapathAttr.name, name)
    .finish()
  try {
    const [reply] = socket.query(`find datapath ${name}`, family, payload)
    return reply === undefined ? undefined : payloadU32(reply.payload.subarray(4))
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENODEV') return undefined
    throw error
  }
}

/** Asking for a family makes the kernel load the module that has it. */
function findFamilies(socket: NetlinkSocket): Families {
  const find = (name: string): number => {
    const payload = new PayloadWriter().u8(control.getFamily).u8(1).u16(0)
    const [reply] = socket.query(
      `find ${name}`,
      control.family,
      payload.attributeText(control.attrName, name).finish(),
    )
    const id = findAttribute(decodeAttributes(reply?.payload.subarray(4) ?? none), control.attrId)
    return id === undefined ? 0 : (id[0] ?? 0) | ((id[1] ?? 0) << 8)
  }
  return {
    datapath: find('ovs_datapath'),
    vport: find('ovs_vport'),
    flow: find('ovs_flow'),
    packet: find('ovs_packet'),
    meter: findIfThere(() => find('ovs_meter')),
  }
}

function findIfThere(find: () => number): number {
  try {
    return find()
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return 0
    throw error
  }
}

const none = new Uint8Array()

/** genlmsghdr and ovs_header */
export function header(command: number, version: number, datapath: number): PayloadWriter {
  return new PayloadWriter().u8(command).u8(version).u16(0).u32(datapath)
}

/** Those of a message of Open vSwitch's families. */
export function attributesOf({ payload }: NetlinkMessage): readonly Attribute[] {
  return decodeAttributes(payload.subarray(8))
}

function readVport(message: NetlinkMessage): ModuleVport {
  const attributes = attributesOf(message)
  const number = (type: number): number => payloadU32(findAttribute(attributes, type)) ?? 0
  return {
    number: number(vportAttr.number),
    type: number(vportAttr.type),
    name: payloadText(findAttribute(attributes, vportAttr.name)) ?? '',
    ifindex: number(vportAttr.ifindex),
  }
}

/** Attribute by attribute, without an object for each: there may be many thousand flows. */
function readFlow(memory: Uint8Array, message: number): ModuleFlow {
  // Without patterns: code that is soon as fast as it gets.
  let ufid = 0
  let ufidEnd = 0
  let key = 0
  let keyEnd = 0
  let mask = 0
  let maskEnd = 0
  let actions = 0
  let actionsEnd = 0
  let packets = 0
  let bytes = 0
  let usedMs = 0
  const messageEnd = message + hostU32(memory, message)
  for (let at = message + messageHeader; at + 4 <= messageEnd; ) {
    const word = hostU32(memory, at)
    const size = word & 0xffff
    const start = at + 4
    const end = at + size
    if (size < 4 || end > messageEnd) break
    switch ((word >>> 16) & 0x3fff) {
      case flowAttr.ufid:
        ufid = start
        ufidEnd = end
        break
      case flowAttr.key:
        key = start
        keyEnd = end
        break
      case flowAttr.mask:
        mask = start
        maskEnd = end
        break
      case flowAttr.actions:
        actions = start
        actionsEnd = end
        break
      case flowAttr.used:
        usedMs = readU64(memory, start)
        break
      case flowAttr.stats:
        packets = readU64(memory, start)
        bytes = readU64(memory, start + 8)
    }
    at += (size + 3) & ~3
  }
  return {
    memory,
    ufid,
    ufidEnd,
    key,
    keyEnd,
    mask,
    maskEnd,
    actions,
    actionsEnd,
    packets,
    bytes,
    usedMs,
  }
}

/** As far as a number can hold it. */
export function readU64(bytes: Uint8Array, at: number): number {
  return hostU32(bytes, at) + hostU32(bytes, at + 4) * 0x1_0000_0000
}

const advice: Readonly<Record<string, string>> = {
  ENOENT: 'this kernel has no openvswitch module; install or load it, or take the ebpf datapath',
  EPERM: 'run as root with CAP_NET_ADMIN',
  EBUSY: 'the interface belongs to another bridge or datapath; take it out there first',
}

function asDatapathError(error: unknown): unknown {
  if (!(error instanceof NetlinkError)) return error
  const hint = advice[error.code]
  const message = hint === undefined ? error.message : `${error.message}: ${hint}`
  return new DatapathError(error.code, message, { cause: error })
}
