/** Packets that routers make themselves: ARP requests, echo replies, ICMP errors. */
import type { Action } from '../packet/action.ts'
import { contains } from '../packet/address.ts'
import { applyActions } from '../packet/apply.ts'
import { buildArpRequest, buildEchoReply, buildIcmpError } from '../packet/build.ts'
import { buildDhcpReply } from '../packet/dhcp-reply.ts'
import { buildRefusal } from '../packet/refusal.ts'
import type { Effect } from './effect.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'

export const limits = {
  /** ICMP errors of one router port: at once, and per second. RFC 1812 section 4.3.2.8. */
  errorBurst: 100,
  errorsPerSecond: 100,
  /** DHCP messages of one port, likewise. */
  dhcpBurst: 20,
  dhcpPerSecond: 10,
} as const

type Answerable = Extract<Effect, { kind: 'echo' | 'icmpError' | 'refusal' | 'dhcp' }>

/** Whether an effect sends something back. */
export function isAnswerable(effect: Effect): effect is Answerable {
  switch (effect.kind) {
    case 'echo':
    case 'icmpError':
    case 'refusal':
    case 'dhcp':
      return true
    default:
      return false
  }
}

/** What a packet was answered with: a frame, or nothing for want of permission or sense. */
export type Answer =
  | { readonly kind: 'frame'; readonly frame: Uint8Array }
  | { readonly kind: 'refused' }
  | { readonly kind: 'none' }

export interface AnswerCounters {
  readonly echoReplies: number
  readonly icmpErrors: number
  /** ICMP errors that the rate limit held back. */
  readonly icmpErrorsHeld: number
  /** Packets that rules rejected, with a reset or an ICMP error. */
  readonly refusals: number
  readonly arpRequests: number
  readonly dhcpReplies: number
  /** DHCP messages that the rate limit left without an answer. */
  readonly dhcpHeld: number
}

export class Answers {
  readonly #buckets = new WeakMap<VirtualPort, Bucket>()
  #echoReplies = 0
  #icmpErrors = 0
  #icmpErrorsHeld = 0
  #refusals = 0
  #arpRequests = 0
  readonly #dhcpBuckets = new WeakMap<VirtualPort, Bucket>()
  #dhcpReplies = 0
  #dhcpHeld = 0

  get counters(): AnswerCounters {
    return {
      echoReplies: this.#echoReplies,
      icmpErrors: this.#icmpErrors,
      icmpErrorsHeld: this.#icmpErrorsHeld,
      refusals: this.#refusals,
      arpRequests: this.#arpRequests,
      dhcpReplies: this.#dhcpReplies,
      dhcpHeld: this.#dhcpHeld,
    }
  }

  /** The frame that an effect on `packet`, as received, sends back. */
  answer(effect: Answerable, packet: Uint8Array, nowMs: number): Answer {
    if (effect.kind === 'echo') {
      const frame = buildEchoReply(packetAt(packet, effect.changes))
      if (frame === undefined) return { kind: 'none' }
      this.#echoReplies++
      return { kind: 'frame', frame }
    }
    if (effect.kind === 'dhcp') return this.#answerDhcp(effect, packet, nowMs)
    if (!this.#bucket(effect.port, nowMs).take(nowMs)) {
      this.#icmpErrorsHeld++
      return { kind: 'refused' }
    }
    const received = packetAt(packet, effect.changes)
    if (effect.kind === 'refusal') {
      const refusal = buildRefusal(received)
      if (refusal === undefined) return { kind: 'none' }
      this.#refusals++
      return { kind: 'frame', frame: refusal }
    }
    const { type, code, parameter, source, port } = effect
    const frame = buildIcmpError(received, {
      type,
      code,
      parameter,
      srcIp: source,
      srcMac: port.mac,
    })
    if (frame === undefined) return { kind: 'none' }
    this.#icmpErrors++
    return { kind: 'frame', frame }
  }

  /** An ARP request for a next hop; undefined when the port has no address to ask from. */
  ask(port: VirtualRouterPort, address: number): Uint8Array | undefined {
    const near = port.addresses.find((cidr) => contains(cidr, address)) ?? port.addresses[0]
    if (near === undefined) return undefined
    this.#arpRequests++
    return buildArpRequest({ sha: port.mac, spa: near.address, tpa: address })
  }

  #answerDhcp(
    { port, lease, serverMac }: Extract<Effect, { kind: 'dhcp' }>,
    packet: Uint8Array,
    nowMs: number,
  ): Answer {
    let bucket = this.#dhcpBuckets.get(port)
    if (bucket === undefined) {
      bucket = new Bucket(nowMs, limits.dhcpBurst, limits.dhcpPerSecond)
      this.#dhcpBuckets.set(port, bucket)
    }
    if (!bucket.take(nowMs)) {
      this.#dhcpHeld++
      return { kind: 'refused' }
    }
    const frame = buildDhcpReply(packet, lease, serverMac)
    if (frame === undefined) return { kind: 'none' }
    this.#dhcpReplies++
    return { kind: 'frame', frame }
  }

  #bucket(port: VirtualPort, nowMs: number): Bucket {
    const known = this.#buckets.get(port)
    if (known !== undefined) return known
    const bucket = new Bucket(nowMs, limits.errorBurst, limits.errorsPerSecond)
    this.#buckets.set(port, bucket)
    return bucket
  }
}

/** A token bucket. */
class Bucket {
  readonly #burst: number
  readonly #perSecond: number
  #tokens: number
  #atMs: number

  constructor(nowMs: number, burst: number, perSecond: number) {
    this.#atMs = nowMs
    this.#burst = burst
    this.#perSecond = perSecond
    this.#tokens = burst
  }

  take(nowMs: number): boolean {
    const grown = ((nowMs - this.#atMs) * this.#perSecond) / 1000
    this.#tokens = Math.min(this.#burst, this.#tokens + grown)
    this.#atMs = nowMs
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

/** The packet as it was after `changes`. */
function packetAt(packet: Uint8Array, changes: readonly Action[]): Uint8Array {
  if (changes.length === 0) return packet
  return applyActions(packet, [...changes, { kind: 'output', port: 1 }])[0]?.frame ?? packet
}
