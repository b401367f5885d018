/** Packets that routers make themselves: ARP requests, echo replies, ICMP errors. */
import type { Action } from '../packet/action.ts'
import { contains } from '../packet/address.ts'
import { addressOf6, type Words6 } from '../packet/address6.ts'
import { applyActions } from '../packet/apply.ts'
import { buildArpRequest, buildEchoReply, buildIcmpError } from '../packet/build.ts'
import {
  buildEchoReply6,
  buildIcmpv6Error,
  buildNeighborAdvertisement,
  buildNeighborSolicitation,
  buildRouterAdvertisement,
  readNeighborMessage,
  readRouterSolicitation,
} from '../packet/build6.ts'
import { buildDhcpReply } from '../packet/dhcp-reply.ts'
import { buildRefusal, buildTooBig } from '../packet/refusal.ts'
import { announcementOf } from './announcement.ts'
import type { Effect } from './effect.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'
import { sourceFor6 } from './router-port6.ts'
import type { OutcomeKind, Simulation } from './simulation.ts'
import type { AnyAddress } from './tag.ts'

export const limits = {
  /** ICMP errors of one router port: at once, and per second. RFC 1812 section 4.3.2.8. */
  errorBurst: 100,
  errorsPerSecond: 100,
  /** DHCP messages of one port, likewise. */
  dhcpBurst: 20,
  dhcpPerSecond: 10,
} as const

type Answerable = Extract<
  Effect,
  {
    kind: 'echo' | 'icmpError' | 'icmp6Error' | 'refusal' | 'dhcp' | 'advertise' | 'advertiseRouter'
  }
>

/** Whether an effect sends something back. */
export function isAnswerable(effect: Effect): effect is Answerable {
  switch (effect.kind) {
    case 'echo':
    case 'icmpError':
    case 'icmp6Error':
    case 'refusal':
    case 'dhcp':
    case 'advertise':
    case 'advertiseRouter':
      return true
    default:
      return false
  }
}

/**
 * Whether what a walk wants remembered is to be: of what is dropped nothing, but of what is answered
 * on its way, since the answer goes back by the translations that the packet came through.
 */
export function leavesState({ effects, delivered }: Simulation, outcome: OutcomeKind): boolean {
  if (outcome === 'forward') return delivered && effects.length > 0
  return outcome === 'consumed' && effects.some(isAnswerable)
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
  /** Neighbour solicitations sent, and answered; router advertisements. */
  readonly solicitations: number
  readonly advertisements: number
  readonly routerAdvertisements: number
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
  #solicitations = 0
  #advertisements = 0
  #routerAdvertisements = 0
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
      solicitations: this.#solicitations,
      advertisements: this.#advertisements,
      routerAdvertisements: this.#routerAdvertisements,
      dhcpReplies: this.#dhcpReplies,
      dhcpHeld: this.#dhcpHeld,
    }
  }

  /** The frame that an effect on `packet`, as received, sends back. */
  answer(effect: Answerable, packet: Uint8Array, nowMs: number): Answer {
    if (effect.kind === 'echo') {
      const request = packetAt(packet, effect.changes)
      const frame = buildEchoReply(request) ?? buildEchoReply6(request)
      if (frame === undefined) return { kind: 'none' }
      this.#echoReplies++
      return { kind: 'frame', frame }
    }
    if (effect.kind === 'dhcp') return this.#answerDhcp(effect, packet, nowMs)
    if (effect.kind === 'advertise') return this.#advertise(effect, packet)
    if (!this.#bucket(effect.port, nowMs).take(nowMs)) {
      this.#icmpErrorsHeld++
      return { kind: 'refused' }
    }
    if (effect.kind === 'advertiseRouter') return this.#advertiseRouter(effect, packet)
    const received = packetAt(packet, effect.changes)
    if (effect.kind === 'refusal') {
      const { mtu } = effect
      const refusal = mtu === 0 ? buildRefusal(received) : buildTooBig(received, mtu)
      if (refusal === undefined) return { kind: 'none' }
      if (mtu === 0) this.#refusals++
      else this.#icmpErrors++
      return { kind: 'frame', frame: refusal }
    }
    const frame = buildError(received, effect)
    if (frame === undefined) return { kind: 'none' }
    this.#icmpErrors++
    return { kind: 'frame', frame }
  }

  /** A request for a next hop's MAC address; undefined when the port has no address to ask from. */
  ask(port: VirtualRouterPort, address: AnyAddress): Uint8Array | undefined {
    if (typeof address !== 'number') return this.#solicit(port, address)
    const near = port.addresses.find((cidr) => contains(cidr, address)) ?? port.addresses[0]
    if (near === undefined) return undefined
    this.#arpRequests++
    return buildArpRequest({ sha: port.mac, spa: near.address, tpa: address })
  }

  #solicit(port: VirtualRouterPort, address: Words6): Uint8Array | undefined {
    const own = sourceFor6(port, address)
    if (own === undefined) return undefined
    this.#solicitations++
    const target = addressOf6(address)
    return buildNeighborSolicitation({ mac: port.mac, src: own.address, target })
  }

  #advertise(effect: Extract<Answerable, { kind: 'advertise' }>, packet: Uint8Array): Answer {
    const asked = readNeighborMessage(packet)
    if (asked?.kind !== 'neighborSolicitation') return { kind: 'none' }
    this.#advertisements++
    return { kind: 'frame', frame: buildNeighborAdvertisement(asked, effect) }
  }

  #advertiseRouter({ port }: { readonly port: VirtualRouterPort }, packet: Uint8Array): Answer {
    const asked = readRouterSolicitation(packet)
    const frame = asked === undefined ? undefined : this.announce(port, asked)
    return frame === undefined ? { kind: 'none' } : { kind: 'frame', frame }
  }

  /** What a router port tells its link, or who asked; undefined when it tells nothing. */
  announce(
    port: VirtualRouterPort,
    to?: { readonly mac: number; readonly address: bigint },
  ): Uint8Array | undefined {
    const announcement = announcementOf(port)
    if (announcement === undefined) return undefined
    this.#routerAdvertisements++
    // Who has no address yet hears what all hear.
    return buildRouterAdvertisement(announcement, to?.address === 0n ? undefined : to)
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

function buildError(
  received: Uint8Array,
  effect: Extract<Answerable, { kind: 'icmpError' | 'icmp6Error' }>,
): Uint8Array | undefined {
  const { type, code, parameter } = effect
  const srcMac = effect.port.mac
  return effect.kind === 'icmpError'
    ? buildIcmpError(received, { type, code, parameter, srcIp: effect.source, srcMac })
    : buildIcmpv6Error(received, { type, code, parameter, src: effect.source, srcMac })
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
