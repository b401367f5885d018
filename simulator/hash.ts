/** A number for each connection: equal routes share traffic by it. */
import type { Simulation } from './simulation.ts'

const ethertypeIpv6 = 0x86dd

/** The same for all packets of a connection, either fragment of a datagram included. */
export function hashConnection(sim: Simulation): number {
  return sim.work[8] === ethertypeIpv6 ? hashIpv6(sim) : hashIpv4(sim)
}

function hashIpv4(sim: Simulation): number {
  sim.seeIpSrc(32)
  sim.seeIpDst(32)
  sim.seeProtocol()
  sim.seeFragment()
  const { work } = sim
  const protocol = (work[9] ?? 0) & 0xff
  let ports = 0
  if ((work[9] ?? 0) >>> 24 === 0 && (protocol === 6 || protocol === 17 || protocol === 132)) {
    sim.seeTpSrc()
    sim.seeTpDst()
    ports = work[18] ?? 0
  }
  let mixed = Math.imul((work[10] ?? 0) ^ Math.imul(work[14] ?? 0, 0x85eb_ca6b), 0x9e37_79b1)
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ ports, 0xc2b2_ae35)
  mixed = Math.imul(mixed ^ (mixed >>> 13) ^ protocol, 0x27d4_eb2f)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** By both addresses, and by ports where no fragment can be without them. */
function hashIpv6(sim: Simulation): number {
  sim.seeIpv6Src(128)
  sim.seeIpv6Dst(128)
  sim.seeProtocol()
  sim.seeFragment()
  const { work } = sim
  const protocol = (work[9] ?? 0) & 0xff
  // A later fragment has protocol 44: what is cut shares one number, whatever it carries.
  const isCut = (work[9] ?? 0) >>> 24 !== 0
  let mixed = isCut ? 0 : protocol
  for (let at = 10; at < 18; at++) mixed = mix(mixed, work[at] ?? 0)
  if (!isCut && (protocol === 6 || protocol === 17 || protocol === 132)) {
    sim.seeTpSrc()
    sim.seeTpDst()
    mixed = mix(mixed, work[18] ?? 0)
  }
  return (mixed ^ (mixed >>> 16)) >>> 0
}

function mix(hash: number, value: number): number {
  const mixed = Math.imul(hash ^ value, 0x9e37_79b1)
  return mixed ^ (mixed >>> 15)
}
