/** Tells in words what the simulator does with a packet and why, without doing it. */
import type { Action } from '../packet/action.ts'
import { formatIp } from '../packet/address.ts'
import { formatWords6 } from '../packet/address6.ts'
import { composeFrame } from '../packet/compose.ts'
import { extractKey } from '../packet/extract.ts'
import { createKey, type FlowKey } from '../packet/flow-key.ts'
import { formatActions, formatFlow, formatKey, parseKey, TextError } from '../packet/text.ts'
import type { Effect } from './effect.ts'
import { flowActions } from './flow-actions.ts'
import { simulateAgain } from './simulate.ts'
import { type OutcomeKind, Simulation } from './simulation.ts'
import type { StateKey } from './state-entry.ts'
import type { VirtualTopology } from './virtual-topology.ts'

export interface TraceResult {
  /** All of the below, for people. */
  readonly text: string
  readonly port: string
  readonly packet: string
  /** What each device decided, in order. */
  readonly steps: readonly string[]
  readonly outcome: OutcomeKind
  /** Why it was dropped; empty when it was not. */
  readonly reason: string
  /** The flow that would be installed; undefined when none would. */
  readonly flow: string | undefined
  readonly actions: string
}

/** A trace was asked for that cannot be made; the message says what to change. */
export class TraceError extends Error {
  override readonly name = 'TraceError'
  readonly code: 'NO_PORT' | 'NO_PACKET'

  constructor(code: TraceError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Walks a packet (a frame in hex, or a flow key in text) in by a port. @throws TraceError */
export function tracePacket(topology: VirtualTopology, id: string, packet: string): TraceResult {
  const port = topology.ports.get(id)
  if (port === undefined)
    throw new TraceError('NO_PORT', `no port ${id} here: midonet status lists the ports`)
  const key = parsePacket(packet)
  key[0] = port.vport
  const sim = new Simulation()
  sim.story = []
  sim.passage.packet = composeFrame(key)
  simulateAgain(port, false, key, undefined, sim)
  const result = { port: id, ...describeWalk(sim) }
  return { text: formatTrace(result), ...result }
}

/** The walk of a simulation that kept its story, for people. */
export function tellStory(sim: Simulation): string {
  return formatTrace({ port: '', ...describeWalk(sim) })
}

function describeWalk(sim: Simulation): Omit<TraceResult, 'text' | 'port'> {
  const { key, mask, outcome } = sim
  const actions: readonly Action[] = outcome === 'drop' ? [] : flowActions(sim)
  const makesFlow = (outcome === 'forward' || outcome === 'drop') && !sim.passage.unkeyed
  return {
    packet: formatKey(key),
    steps: [...(sim.story ?? []), ...sim.effects.map(describeEffect)],
    outcome,
    reason: outcome === 'forward' ? '' : sim.reason,
    flow: makesFlow ? formatFlow({ key, mask }, actions) : undefined,
    actions: formatActions(actions),
  }
}

function parsePacket(text: string): FlowKey {
  const hex = text.replaceAll(/[\s:]/g, '')
  if (/^([0-9a-f]{2})+$/i.test(hex)) {
    const key = createKey()
    if (extractKey(Uint8Array.from(Buffer.from(hex, 'hex')), 0, key)) return key
    throw new TraceError('NO_PACKET', 'a frame has 14 bytes at least')
  }
  try {
    return parseKey(text).key
  } catch (error) {
    if (!(error instanceof TextError)) throw error
    throw new TraceError('NO_PACKET', `neither a frame in hex nor a flow key: ${error.message}`, {
      cause: error,
    })
  }
}

function formatTrace(result: Omit<TraceResult, 'text'>): string {
  return [
    `packet: ${result.packet}`,
    ...result.steps.map((step) => `  ${step}`),
    `outcome: ${describeOutcome(result)}`,
    ...(result.flow === undefined ? [] : [`flow: ${result.flow}`]),
  ].join('\n')
}

function describeOutcome({ outcome, reason, actions }: Omit<TraceResult, 'text'>): string {
  switch (outcome) {
    case 'forward':
      return `forwarded: ${actions}`
    case 'drop':
      return `dropped: ${reason}`
    case 'park':
      return 'waits until the next hop answers ARP'
    case 'consumed':
      return `taken by the router: ${reason}`
  }
}

function describeEffect(effect: Effect): string {
  switch (effect.kind) {
    case 'learnMac':
      return `would learn: source is behind port ${effect.port.id}`
    case 'learnAddress':
      return `would learn: the address of the source on bridge ${effect.port.bridge.name}`
    case 'learnNeighbor':
    case 'learnNeighbor6':
      return `would learn: the neighbour on port ${effect.port.id}`
    case 'echo':
      return `would send: echo reply from port ${effect.port.id}`
    case 'icmpError':
      return `would send: ICMP type ${effect.type} code ${effect.code} from port ${effect.port.id}`
    case 'icmp6Error':
      return `would send: ICMPv6 type ${effect.type} code ${effect.code} from port ${effect.port.id}`
    case 'advertise':
      return `would send: a neighbour advertisement back through port ${effect.port.id}`
    case 'advertiseRouter':
      return `would send: a router advertisement from port ${effect.port.id}`
    case 'refusal':
      return `would send: a refusal back through port ${effect.port.id}`
    case 'dhcp':
      return `would send: a DHCP message with ${formatIp(effect.lease.address)} for the client`
    case 'addState':
      return `would remember: ${tellKey(effect.entry.forward)}, answered by ${tellKey(effect.entry.backward)}`
    case 'addFragment':
      return 'would remember: the datagram, for its later fragments'
    case 'probeAnswer':
      return `would note: member ${effect.probe.monitored.member.id} is well`
    case 'stick':
      return `would keep: ${formatIp(effect.client)} at member ${effect.member}`
    case 'useState':
      return `would note: the connection of ${tellKey(effect.key)} goes on or closes`
  }
}

/** Source and destination of a connection's packets one way. */
function tellKey({ src, dst, ports, entry }: StateKey): string {
  const ip = (number: number): string => {
    if (entry.book === undefined) return formatIp(number)
    const words = entry.book.wordsOf(number)
    return words === undefined ? '?' : `[${formatWords6(words)}]`
  }
  return `${ip(src)}:${ports & 0xffff} > ${ip(dst)}:${ports >>> 16}`
}
