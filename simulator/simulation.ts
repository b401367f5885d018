/**
 * One packet's walk through the topology: the header as it came, as the devices have rewritten it,
 * and as the actions so far have left it; the mask of what was read; tags, actions and effects.
 *
 * One object serves all simulations in turn; it allocates only for what was never said before.
 *
 * The mask follows Open vSwitch: a device calls `see…` for every field it reads to decide, and a
 * field that is rewritten is seen too, since whether the rewrite changes anything depends on it.
 */
import type { Action } from '../packet/action.ts'
import type { Words6 } from '../packet/address6.ts'
import { copyKey, createKey, type FlowKey, fields } from '../packet/flow-key.ts'
import { ActionLists } from './action-lists.ts'
import { Choices } from './choices.ts'
import type { Effect } from './effect.ts'
import { hashConnection } from './hash.ts'
import { empty } from './list.ts'
import { Observation, word } from './observation.ts'
import type { Lively, Missing, OutcomeKind } from './outcome.ts'
import { Passage } from './passage.ts'
import type { VirtualPort } from './port.ts'
import { Redirection } from './redirect.ts'
import { pushDifferences } from './rewrite.ts'
import type { VirtualTrace } from './trace-request.ts'

export const limits = {
  /** Devices on one path through the topology, as the original's. */
  devices: 12,
  /** Devices on all paths of a flood. */
  steps: 4096,
} as const

export { word } from './observation.ts'
export type { Lively, Missing, OutcomeKind } from './outcome.ts'

export class Simulation extends Observation {
  /** As received; the caller's, which does not change while the simulation is of use. */
  key: FlowKey = createKey()
  /** As rewritten so far: what the next device sees. Before the first rewrite it is `key` itself. */
  work: FlowKey = this.key
  readonly #rewrittenKey = createKey()
  readonly actions: Action[] = []
  actionCount = 0
  readonly effects: Effect[] = []
  readonly choices = new Choices()
  readonly lists = new ActionLists()
  /** Learned MAC addresses that were this packet's source, its connections: they live. */
  readonly sources: Lively[] = []
  readonly passage = new Passage()
  readonly redirection = new Redirection()
  /** No copy goes to other hosts; for the caller to set. */
  staysHere = false
  /** Other hosts that copies have gone to. */
  readonly hosts: string[] = []
  /** Devices on the path so far, and on all paths. */
  devices = 0
  steps = 0
  /** Ports that copies for mirrors have left by. */
  copies = 0
  /** More than such copies was sent. */
  delivered = false
  /** Why the packet, or a copy of it, was last dropped. */
  reason = ''
  missing: Missing | undefined
  /** A next hop that is known not to answer: using it is an error now, nothing to wait for. */
  unreachable: Missing | undefined
  /** The agent answers this packet itself. */
  consumed = false
  looped = false
  /**
   * The packet's length as `ipLength` says, and whether it may be cut: for the caller to set, 0
   * when a flow is sought that serves all lengths.
   */
  length = 0
  mayCut = false
  /** The least MTU on the present path that the packet may exceed, and on all paths; 0 for none. */
  pathMtu = 0
  lengthMax = 0
  /** What must come before anything is sent. */
  #meter: Action | undefined
  /** Trace requests whose condition it met. */
  readonly traces: VirtualTrace[] = []
  /** The walk in words, while somebody traces. */
  story: string[] | undefined
  /** As the actions so far have left the packet. */
  readonly #emitted = createKey()
  readonly #saved: FlowKey[] = Array.from({ length: limits.devices + 1 }, createKey)
  readonly #savedMtus: number[] = new Array<number>(limits.devices + 1).fill(0)
  #rewritten = false
  /** Whether a rewrite was emitted; before the first, packets leave as they came. */
  #changed = false
  #ethAction: Action | undefined
  #sentQuote: string | undefined

  /** Begins anew with the packet of `key`; `passage.packet` is for the caller to set. */
  start(key: FlowKey): void {
    this.key = key
    this.work = key
    this.clear()
    this.actionCount = 0
    empty(this.effects)
    this.choices.clear()
    empty(this.sources)
    empty(this.traces)
    empty(this.hosts)
    if (this.story !== undefined) empty(this.story)
    this.devices = 0
    this.steps = 0
    this.copies = 0
    this.delivered = false
    this.pathMtu = 0
    this.lengthMax = 0
    this.#meter = undefined
    this.reason = ''
    this.missing = undefined
    this.unreachable = undefined
    this.consumed = false
    this.looped = false
    this.#rewritten = false
    this.#changed = false
    this.#ethAction = undefined
    this.#sentQuote = undefined
    this.passage.start()
  }

  get outcome(): OutcomeKind {
    if (this.looped) return 'drop'
    if (this.missing !== undefined) return 'park'
    if (this.consumed) return 'consumed'
    return this.actionCount > 0 ? 'forward' : 'drop'
  }

  /** The same for all packets of a connection, either fragment of a datagram included. */
  hash(): number {
    return hashConnection(this)
  }

  /** The header as it came to the present device, past the port's own chains. */
  get entered(): FlowKey {
    const { frame } = this.passage
    return frame.isChanged ? frame.entered : this.work
  }

  /**
   * Before the header changes: what the device received is kept, for answers. Who holds `work` from
   * before sees no change.
   */
  #beginRewrite(): void {
    const { frame } = this.passage
    if (this.work === this.key) {
      copyKey(this.key, this.#rewrittenKey)
      this.work = this.#rewrittenKey
    }
    if (!frame.isChanged) {
      copyKey(this.work, frame.entered)
      frame.isChanged = true
    }
    this.#rewritten = true
  }

  /** Writes both MAC addresses; `action` is the `setEth` that says so. */
  rewriteEth(action: Extract<Action, { kind: 'setEth' }>, words: Uint32Array): void {
    this.#beginRewrite()
    this.seeEthDst()
    this.seeEthSrc()
    this.work[3] = word(words, 0)
    this.work[4] = word(words, 1)
    this.work[5] = word(words, 2)
    this.work[6] = word(words, 3)
    this.#ethAction = action
  }

  rewriteTtl(ttl: number): void {
    this.#beginRewrite()
    this.seeTtl()
    this.work[9] = (word(this.work, 9) & 0xff00_ffff) | (ttl << 16)
  }

  /** Writes the DS field and leaves the ECN bits (RFC 2474, RFC 3168). */
  rewriteDscp(dscp: number): void {
    this.#beginRewrite()
    this.seeTos()
    const tos = (dscp << 2) | ((word(this.work, 9) >>> 8) & 3)
    this.work[9] = ((word(this.work, 9) & 0xffff_00ff) | (tos << 8)) >>> 0
  }

  /** Has the packet pass a meter before anything of it is sent. */
  passMeter(action: Action): void {
    this.#meter = action
  }

  rewriteIpv6Src(address: Words6): void {
    this.#beginRewrite()
    this.seeIpv6Src(128)
    this.work.set(address, 10)
  }

  rewriteIpv6Dst(address: Words6): void {
    this.#beginRewrite()
    this.seeIpv6Dst(128)
    this.work.set(address, 14)
  }

  rewriteIpSrc(address: number): void {
    this.#beginRewrite()
    this.seeIpSrc(32)
    this.work[10] = address
  }

  rewriteIpDst(address: number): void {
    this.#beginRewrite()
    this.seeIpDst(32)
    this.work[14] = address
  }

  rewriteTpSrc(port: number): void {
    this.#beginRewrite()
    this.seeTpSrc()
    this.work[18] = (word(this.work, 18) & 0xffff_0000) | port
  }

  rewriteTpDst(port: number): void {
    this.#beginRewrite()
    this.seeTpDst()
    this.work[18] = (word(this.work, 18) & 0xffff) | (port << 16)
  }

  /** Writes the tag as the key has it: 0 for none. */
  setVlan(tag: number): void {
    this.#beginRewrite()
    this.seeVlan()
    this.work[7] = tag
  }

  /** Turns the ARP request in work into the reply that `mac` gives, and sends it back. */
  rewriteToArpReply(mac: number): void {
    this.#beginRewrite()
    const { arpOp, ipSrc, ipDst, arpSha, arpTha } = fields
    for (const field of [arpOp, ipSrc, ipDst, arpSha, arpTha]) this.see(field)
    this.seeEthDst()
    this.seeEthSrc()
    const { work } = this
    const high = Math.floor(mac / 0x1_0000_0000)
    const target = word(work, 14)
    work[3] = word(work, 5)
    work[4] = word(work, 6)
    work[5] = high
    work[6] = mac
    work[15] = word(work, 11)
    work[16] = word(work, 12)
    work[14] = word(work, 10)
    work[10] = target
    work[11] = high
    work[12] = mac
    work[19] = (word(work, 19) & 0xffff) | (2 << 16)
    this.#ethAction = undefined
  }

  /** Sends the packet, as it is in work, by a vport. */
  output(action: Action): void {
    if (this.passage.unkeyed && !this.#agreesOnQuote()) {
      this.drop('copies of an ICMP message would differ inside')
      return
    }
    if (this.pathMtu !== 0 && (this.lengthMax === 0 || this.pathMtu < this.lengthMax))
      this.lengthMax = this.pathMtu
    this.delivered = true
    this.outputCopy(action)
  }

  /** Sends it to another host, with the header that says what for. */
  send(host: string, tunnel: Action, output: Action): void {
    if (this.staysHere) return
    this.outputCopy(tunnel)
    this.output(output)
    this.hosts.push(host)
  }

  /** Likewise a copy of it. Inside an ICMP message that is as the message goes on. */
  outputCopy(action: Action): void {
    if (this.#meter !== undefined) {
      this.actions[this.actionCount++] = this.#meter
      this.#meter = undefined
    }
    if (this.#rewritten) this.#emitChanges()
    this.actions[this.actionCount++] = action
  }

  /** The actions that turn the packet as received into that of `key`. */
  changes(key: FlowKey = this.work): Action[] {
    const list: Action[] = []
    pushDifferences(this.key, key, undefined, (action) => list.push(action))
    return list
  }

  /** A copy of the packet is dropped here. */
  drop(reason: string): undefined {
    this.reason = reason
    this.story?.push(`dropped: ${reason}`)
    return undefined
  }

  /** The agent takes the packet itself. */
  consume(what: string): undefined {
    this.consumed = true
    this.reason = what
    this.story?.push(what)
    return undefined
  }

  /**
   * Drops the packet and refuses it to its sender, back through `port`: that it is prohibited, or
   * larger than `mtu`.
   */
  refuse(port: VirtualPort, reason: string, mtu = 0): undefined {
    this.consumed = true
    const changes = this.changes(this.entered)
    this.effects.push({ kind: 'refusal', port, changes, mtu, reason })
    return this.drop(reason)
  }

  /** Keeps the header while a copy of the packet goes another way. */
  save(): void {
    const saved = this.#saved[this.devices]
    if (saved !== undefined) copyKey(this.work, saved)
    this.#savedMtus[this.devices] = this.pathMtu
  }

  restore(devices: number): void {
    const saved = this.#saved[devices]
    this.work = this.#rewrittenKey
    if (saved !== undefined) copyKey(saved, this.work)
    this.devices = devices
    this.pathMtu = this.#savedMtus[devices] ?? 0
    this.passage.resume(devices)
    this.#ethAction = undefined
    this.#rewritten = true
  }

  /** Inside ICMP messages the bytes are changed before any action, so once for all copies. */
  #agreesOnQuote(): boolean {
    const quote = JSON.stringify(this.passage.quotes.changed ?? null)
    this.#sentQuote ??= quote
    return this.#sentQuote === quote
  }

  #emitChanges(): void {
    const from = this.#changed ? this.#emitted : this.key
    pushDifferences(from, this.work, this.#ethAction, this.#push)
    copyKey(this.work, this.#emitted)
    this.#changed = true
    this.#rewritten = false
  }

  readonly #push = (action: Action): void => {
    this.actions[this.actionCount++] = action
  }
}
