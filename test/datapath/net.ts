/** A world with three ports, as the tests of datapaths see it. */
import type { Datapath, FlowMatch, Upcall } from '../../datapath/datapath.ts'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, type FieldName, type FlowKey, fields } from '../../packet/flow-key.ts'
import { parseActions } from '../../packet/text.ts'
import { hexOf } from '../packet/captures.ts'

const patienceMs = 5_000
/** Waited for in vain. */
const nobody = new Int32Array(new SharedArrayBuffer(4))

/** A frame that came out of an interface. */
export interface Delivered {
  readonly name: string
  readonly frame: Uint8Array
}

export interface World {
  readonly datapath: Datapath
  /** At least three; not yet vports. */
  readonly interfaces: readonly string[]
  /** As if the interface received a frame. */
  send(name: string, frame: Uint8Array): void
  /** Frames that came out since the last call; in order for each interface. */
  take(): readonly Delivered[]
  /** The datapath as an agent finds it that starts after this one died. */
  reopen(): World
}

/** A world with its first three interfaces as ports, which are known by index 0 to 2. */
export class Net {
  readonly world: World
  readonly #ports: readonly number[]

  constructor(world: World) {
    this.world = world
    const { datapath, interfaces } = world
    this.#ports = interfaces.slice(0, 3).map((name) => datapath.addPort(name).number)
    world.take()
  }

  port(index: number): number {
    return this.#ports[index] ?? 0
  }

  indexOf(port: number): number {
    return this.#ports.indexOf(port)
  }

  to(index: number): readonly Action[] {
    return [{ kind: 'output', port: this.port(index) }]
  }

  actions(text: string): readonly Action[] {
    return parseActions(text.replaceAll(/\$([abc])/g, (_, name: string) => this.#number(name)))
  }

  #number(name: string): string {
    return String(this.port('abc'.indexOf(name)))
  }

  install(match: FlowMatch, actions: readonly Action[]): number {
    return this.world.datapath.install(match, actions)
  }

  /** Packets and bytes; those of many flows may be a second old, so `packets` are waited for. */
  stats(id: number, packets = 0): readonly [number, number] {
    const { datapath } = this.world
    const end = performance.now() + patienceMs
    let stats = datapath.stats(id)
    while ((stats?.packets ?? 0) < packets && performance.now() < end) {
      Atomics.wait(nobody, 0, 0, 50)
      stats = datapath.stats(id)
    }
    return [stats?.packets ?? -1, stats?.bytes ?? -1]
  }

  send(index: number, frame: Uint8Array): void {
    this.world.send(this.world.interfaces[index] ?? '', frame)
  }

  take(): readonly (readonly [number, string])[] {
    const { interfaces } = this.world
    return this.world.take().map(({ name, frame }) => [interfaces.indexOf(name), hexOf(frame)])
  }

  /** Copies of all waiting upcalls. */
  receive(): readonly { reason: Upcall['reason']; packet: string; key: FlowKey }[] {
    const upcalls: { reason: Upcall['reason']; packet: string; key: FlowKey }[] = []
    this.world.datapath.receive(100_000, ({ reason, packet, key }) => {
      upcalls.push({ reason, packet: hexOf(packet), key: key.slice() })
    })
    return upcalls
  }
}

export function keyOf(frame: Uint8Array, inPort: number): FlowKey {
  const key = createKey()
  extractKey(frame, inPort, key)
  return key
}

/** Matches this frame's whole key. */
export function exact(frame: Uint8Array, inPort: number): FlowMatch {
  return { key: keyOf(frame, inPort), mask: createKey().fill(0xffff_ffff) }
}

/** Matches some fields of this frame. */
export function some(frame: Uint8Array, inPort: number, names: readonly FieldName[]): FlowMatch {
  const mask = createKey()
  for (const name of names) {
    const { word, shift, bits } = fields[name]
    const low = bits >= 32 ? 0xffff_ffff : ((1 << bits) - 1) << shift
    if (bits === 48) mask[word] = 0xffff
    const at = bits === 48 ? word + 1 : word
    mask[at] = (mask[at] ?? 0) | low
  }
  return { key: keyOf(frame, inPort), mask }
}

export function change(frame: Uint8Array, text: string): Uint8Array {
  return applyActions(frame, parseActions(`${text},1`))[0]?.frame ?? frame
}

/** The same packet with eight bytes of options, all no-operations. */
export function withOptions(frame: Uint8Array): Uint8Array {
  const options = new Uint8Array(8).fill(1)
  const longer = Uint8Array.from([...frame.subarray(0, 34), ...options, ...frame.subarray(34)])
  longer[14] = 0x47
  longer[17] = (longer[17] ?? 0) + 8
  return longer
}

/** The same IPv6 packet with extension headers of these numbers, 8 bytes each (12 of number 51). */
export function withHeaders(frame: Uint8Array, numbers: readonly number[]): Uint8Array {
  const transport = frame[20] ?? 59
  const headers = numbers.flatMap((number, at) => {
    const header = new Array<number>(number === 51 ? 12 : 8).fill(0)
    header[0] = numbers[at + 1] ?? transport
    if (number === 51) header[1] = 1
    return header
  })
  const longer = Uint8Array.from([...frame.subarray(0, 54), ...headers, ...frame.subarray(54)])
  longer[20] = numbers[0] ?? transport
  const size = longer.length - 54
  longer[18] = size >>> 8
  longer[19] = size
  return longer
}
