/**
 * One packet's walk through the topology: the header as it came, as the devices have rewritten it,
 * and as the actions so far have left it; the mask of what was read; tags, actions and effects.
 *
 * One object serves all simulations, one after another, so that a simulation allocates nothing
 * unless it has something to say that was never said before.
 *
 * The mask follows Open vSwitch: a device calls `see…` for every field it reads to decide, and a
 * field that is rewritten is seen too, since whether the rewrite changes anything depends on it.
 */
import type { Action } from '../packet/action.ts'
import type { Words6 } from '../packet/address6.ts'
import { createKey, type FieldName, type FlowKey, fields, keyWords } from '../packet/flow-key.ts'
import type { Effect } from './effect.ts'
import { hashConnection } from './hash.ts'
import { Passage } from './passage.ts'
import type { VirtualPort } from './port.ts'
import { pushDifferences } from './rewrite.ts'
import type { VirtualRouterPort } from './router.ts'
import type { AnyAddress, Tag } from './tag.ts'
import type { VirtualTrace } from './trace-request.ts'

export const limits = {
  /** Devices on one path through the topology, as the original's. */
  devices: 12,
  /** Devices on all paths of a flood. */
  steps: 4096,
} as const

/** What lives as long as packets show that it does. */
export interface Lively {
  lastSeenMs: number
}

/** The fact a parked packet waits for: the MAC address of a next hop. */
export interface Missing {
  readonly port: VirtualRouterPort
  readonly address: AnyAddress
  readonly tag: Tag
}

/**
 * What became of a packet. `forward` and `drop` make flows; `park` waits for a fact; `consumed` was
 * answered by the agent, and the next packet like it comes to the agent too.
 */
export type OutcomeKind = 'forward' | 'drop' | 'park' | 'consumed'

/** Word `at` of a key or mask. */
export function word(key: FlowKey, at: number): number {
  return key[at] ?? 0
}

function seePrefix(mask: FlowKey, from: number, bits: number): void {
  for (let at = from, left = bits; left > 0; at++, left -= 32)
    mask[at] = word(mask, at) | (left >= 32 ? 0xffff_ffff : 0xffff_ffff << (32 - left))
}

export class Simulation {
  /** As received. */
  readonly key = createKey()
  /** As rewritten so far: what the next device sees. */
  readonly work = createKey()
  readonly mask = createKey()
  readonly tags: Tag[] = new Array<Tag>(64).fill('')
  tagCount = 0
  readonly actions: Action[] = []
  actionCount = 0
  readonly effects: Effect[] = []
  /** Learned MAC addresses that were this packet's source, its connections: they live. */
  readonly sources: Lively[] = []
  readonly passage = new Passage()
  /** Devices on the path so far, and on all paths. */
  devices = 0
  steps = 0
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
    for (let at = 0; at < keyWords; at++) {
      const value = word(key, at)
      this.key[at] = value
      this.work[at] = value
      this.mask[at] = 0
    }
    this.mask[0] = 0xffff_ffff
    this.tagCount = 0
    this.actionCount = 0
    if (this.effects.length > 0) this.effects.length = 0
    if (this.sources.length > 0) this.sources.length = 0
    if (this.traces.length > 0) this.traces.length = 0
    if (this.story !== undefined) this.story.length = 0
    this.devices = 0
    this.steps = 0
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

  tag(tag: Tag): void {
    this.tags[this.tagCount++] = tag
  }

  /** Joins a whole field to the mask. */
  see(name: FieldName): void {
    const { word: at, shift, bits } = fields[name]
    if (bits > 32) {
      if (bits === 48) this.mask[at] = word(this.mask, at) | 0xffff
      else this.mask[at] = 0xffff_ffff
      for (let next = at + 1; next * 32 < at * 32 + bits; next++) this.mask[next] = 0xffff_ffff
      return
    }
    const ones = bits === 32 ? 0xffff_ffff : (1 << bits) - 1
    this.mask[at] = word(this.mask, at) | (ones << shift)
  }

  /** Joins some bits of word `at`. */
  seeBits(at: number, bits: number): void {
    this.mask[at] = word(this.mask, at) | bits
  }

  seeEthDst(): void {
    this.mask[3] = 0xffff
    this.mask[4] = 0xffff_ffff
  }

  seeEthSrc(): void {
    this.mask[5] = 0xffff
    this.mask[6] = 0xffff_ffff
  }

  /** Tag and innermost type: what the bytes above Ethernet are. */
  seeEthType(): void {
    this.mask[7] = 0xffff
    this.mask[8] = 0xffff
  }

  seeIpSrc(bits: number): void {
    if (bits > 0) this.mask[10] = word(this.mask, 10) | (0xffff_ffff << (32 - bits))
  }

  seeIpDst(bits: number): void {
    if (bits > 0) this.mask[14] = word(this.mask, 14) | (0xffff_ffff << (32 - bits))
  }

  seeIpv6Src(bits: number): void {
    seePrefix(this.mask, 10, bits)
  }

  seeIpv6Dst(bits: number): void {
    seePrefix(this.mask, 14, bits)
  }

  /** The same for all packets of a connection, either fragment of a datagram included. */
  hash(): number {
    return hashConnection(this)
  }

  /** Writes both MAC addresses; `action` is the `setEth` that says so. */
  rewriteEth(action: Extract<Action, { kind: 'setEth' }>, words: Uint32Array): void {
    this.seeEthDst()
    this.seeEthSrc()
    this.work[3] = word(words, 0)
    this.work[4] = word(words, 1)
    this.work[5] = word(words, 2)
    this.work[6] = word(words, 3)
    this.#ethAction = action
    this.#rewritten = true
  }

  rewriteTtl(ttl: number): void {
    this.see('ipTtl')
    this.work[9] = (word(this.work, 9) & 0xff00_ffff) | (ttl << 16)
    this.#rewritten = true
  }

  /** Writes the DS field and leaves the ECN bits (RFC 2474, RFC 3168). */
  rewriteDscp(dscp: number): void {
    this.see('ipTos')
    const tos = (dscp << 2) | ((word(this.work, 9) >>> 8) & 3)
    this.work[9] = ((word(this.work, 9) & 0xffff_00ff) | (tos << 8)) >>> 0
    this.#rewritten = true
  }

  /** Has the packet pass a meter before anything of it is sent. */
  passMeter(action: Action): void {
    this.#meter = action
  }

  rewriteIpv6Src(address: Words6): void {
    this.seeIpv6Src(128)
    this.work.set(address, 10)
    this.#rewritten = true
  }

  rewriteIpv6Dst(address: Words6): void {
    this.seeIpv6Dst(128)
    this.work.set(address, 14)
    this.#rewritten = true
  }

  rewriteIpSrc(address: number): void {
    this.seeIpSrc(32)
    this.work[10] = address
    this.#rewritten = true
  }

  rewriteIpDst(address: number): void {
    this.seeIpDst(32)
    this.work[14] = address
    this.#rewritten = true
  }

  rewriteTpSrc(port: number): void {
    this.see('tpSrc')
    this.work[18] = (word(this.work, 18) & 0xffff_0000) | port
    this.#rewritten = true
  }

  rewriteTpDst(port: number): void {
    this.see('tpDst')
    this.work[18] = (word(this.work, 18) & 0xffff) | (port << 16)
    this.#rewritten = true
  }

  stripVlan(): void {
    this.work[7] = 0
    this.#rewritten = true
  }

  /** Turns the ARP request in work into the reply that `mac` gives, and sends it back. */
  rewriteToArpReply(mac: number): void {
    for (const name of ['arpOp', 'ipSrc', 'ipDst', 'arpSha', 'arpTha'] as const) this.see(name)
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
    this.#rewritten = true
  }

  /** Sends the packet, as it is in work, by a vport. */
  output(action: Action): void {
    if (this.passage.unkeyed && !this.#agreesOnQuote()) {
      this.drop('copies of an ICMP message would differ inside')
      return
    }
    if (this.#meter !== undefined) {
      this.actions[this.actionCount++] = this.#meter
      this.#meter = undefined
    }
    if (this.pathMtu !== 0 && (this.lengthMax === 0 || this.pathMtu < this.lengthMax))
      this.lengthMax = this.pathMtu
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

  /** Drops the packet and refuses it to its sender, back through `port`. */
  refuse(port: VirtualPort, reason: string): undefined {
    this.consumed = true
    const changes = this.changes(this.passage.frame.entered)
    this.effects.push({ kind: 'refusal', port, changes, reason })
    return this.drop(reason)
  }

  /** Keeps the header while a copy of the packet goes another way. */
  save(): void {
    this.#saved[this.devices]?.set(this.work)
    this.#savedMtus[this.devices] = this.pathMtu
  }

  restore(devices: number): void {
    const saved = this.#saved[devices]
    if (saved !== undefined) this.work.set(saved)
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
    for (let at = 0; at < keyWords; at++) this.#emitted[at] = word(this.work, at)
    this.#changed = true
    this.#rewritten = false
  }

  readonly #push = (action: Action): void => {
    this.actions[this.actionCount++] = action
  }
}
