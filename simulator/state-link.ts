/**
 * How messages of flow state get from host to host: as frames of their own through the tunnels that
 * packets take, under a key that names no port, so that they arrive before the packets sent after
 * them. The tunnel's source says who sent one; only members of a zone are heard.
 *
 *   ac:ca:ba:00:15:02  ac:ca:ba:00:15:01  0x88b5 (IEEE 802, local experiments)  message
 */
import type { Datapath } from '../datapath/datapath.ts'
import { DatapathError } from '../datapath/datapath.ts'
import type { Action } from '../packet/action.ts'
import type { FlowKey } from '../packet/flow-key.ts'
import { type Peers, stateKey, type Way } from './peers.ts'
import { word } from './simulation.ts'

const head = Uint8Array.of(
  ...[0xac, 0xca, 0xba, 0x00, 0x15, 0x02, 0xac, 0xca, 0xba, 0x00, 0x15, 0x01, 0x88, 0xb5],
)

export class StateLink {
  readonly #datapath: Datapath
  readonly #peers: Peers
  #failures = 0

  constructor(datapath: Datapath, peers: Peers) {
    this.#datapath = datapath
    this.#peers = peers
  }

  /** Messages that the datapath did not take. */
  get failures(): number {
    return this.#failures
  }

  /** Hosts that a tunnel leads to. */
  get hosts(): ReadonlyMap<string, Way> {
    return this.#peers.ways
  }

  send(host: string, message: Uint8Array): void {
    const way = this.#peers.ways.get(host)
    if (way === undefined) return
    const frame = new Uint8Array(head.length + message.length)
    frame.set(head)
    frame.set(message, head.length)
    const header: Action = { kind: 'setTunnel', id: stateKey, dst: way.dst, src: way.src }
    try {
      this.#datapath.execute(frame, undefined, 0, [header, way.output])
    } catch (error) {
      if (!(error instanceof DatapathError)) throw error
      this.#failures++
    }
  }

  /** The host that a packet out of a tunnel is from; undefined when it is no member's. */
  sourceOf(key: FlowKey): string | undefined {
    return this.#peers.tunnelOf(word(key, 0))?.hosts.get(word(key, 2))
  }
}

/** Whether a packet brings flow state. */
export function isStateKey(key: FlowKey): boolean {
  return word(key, 1) === stateKey
}

/** The message in a frame. */
export function messageOf(frame: Uint8Array): Uint8Array {
  return frame.subarray(head.length)
}
