/**
 * A neighbour's next question. Who has asked for a MAC address by broadcast and was answered asks
 * again by unicast after a while (RFC 1122 section 2.3.2.1 (2); Linux after some 20 to 50 s, when
 * nothing else tells that the neighbour lives), and takes its absence for three seconds as the
 * neighbour's death. The flow for that is made with the first answer, so that an agent that is away
 * just then costs nobody a neighbour.
 */
import type { FlowKey } from '../packet/flow-key.ts'
import { type Simulation, word } from './simulation.ts'

const ethertypeArp = 0x0806
const ops = { request: 1, reply: 2 } as const

/** The key of the question to come; undefined when the simulation answered no broadcast by ARP. */
export function probeOf(key: FlowKey, { work }: Simulation): FlowKey | undefined {
  if (key[8] !== ethertypeArp || key[3] !== 0xffff || key[4] !== 0xffff_ffff) return undefined
  const isAnswered = opOf(key) === ops.request && opOf(work) === ops.reply
  // Address 0.0.0.0 asks whether an address is free, and not again.
  if (!isAnswered || key[10] === 0) return undefined
  const probe = key.slice()
  probe[3] = word(work, 5)
  probe[4] = word(work, 6)
  return probe
}

function opOf(key: FlowKey): number {
  return word(key, 19) >>> 16
}
