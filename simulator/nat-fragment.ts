/** Fragments under dynamic translation: the first is translated by its ports, later ones follow it. */

import { fragFirst, fragLater } from '../packet/flow-key.ts'
import { fragmentIdOf } from '../packet/fragment-id.ts'
import type { NatAction } from './compile-action.ts'
import type { FragmentTrack } from './fragment-table.ts'
import type { NatOutcome } from './nat.ts'
import { rewriteDst6, rewriteSrc6 } from './nat6.ts'
import { type Simulation, word } from './simulation.ts'
import { keyKinds, zoneOf, zoneWord } from './state-entry.ts'
import { numberAt } from './tuple.ts'

const ethertypeIpv6 = 0x86dd

/** The rules that give connections addresses, and those that give them back. */
export type FragmentKind = 'snat' | 'dnat' | 'reverseSnat' | 'reverseDnat'

/** The kind of an action that fragments follow; undefined for those that need no ports. */
export function fragmentKindOf(kind: NatAction['kind']): FragmentKind | undefined {
  switch (kind) {
    case 'masquerade':
      return 'snat'
    case 'snat':
    case 'dnat':
    case 'reverseSnat':
    case 'reverseDnat':
      return kind
    default:
      return undefined
  }
}

/** Whether the packet is a later fragment: without ports. */
export function isLaterFragment(sim: Simulation): boolean {
  sim.seeFragment()
  return word(sim.work, 9) >>> 24 === fragLater
}

/**
 * Does with a later fragment what this kind of rule did with the first one. The agent must see each
 * such fragment, since no flow can tell the datagrams of one pair of hosts apart.
 */
export function followFirst(sim: Simulation, kind: FragmentKind): NatOutcome {
  const track = sim.passage.zone?.state.fragments.find(...placeOf(sim, kind))
  if (track === undefined) {
    // Of what comes back, not everything was translated.
    if (kind === 'reverseSnat' || kind === 'reverseDnat') return 'skip'
    sim.drop('the first fragment of the datagram has not passed')
    return 'drop'
  }
  const isIpv6 = track.book !== undefined
  if (track.isSource && isIpv6) rewriteSrc6(sim, track.address)
  else if (track.isSource) sim.rewriteIpSrc(track.address)
  else if (isIpv6) rewriteDst6(sim, track.address)
  else sim.rewriteIpDst(track.address)
  if (!track.isSource) sim.passage.frame.dstRewritten = true
  return 'done'
}

/** Reads where a first fragment belongs, before it is translated; undefined of other packets. */
export function placeOfFirst(
  sim: Simulation,
  kind: FragmentKind,
): ReturnType<typeof placeOf> | undefined {
  sim.seeFragment()
  return word(sim.work, 9) >>> 24 === fragFirst ? placeOf(sim, kind) : undefined
}

/** Has later fragments of a datagram follow the first one, which has been translated. */
export function rememberFirst(
  sim: Simulation,
  kind: FragmentKind,
  [zone, src, dst, ports]: ReturnType<typeof placeOf>,
): void {
  const isSource = kind === 'snat' || kind === 'reverseDnat'
  const book = sim.work[8] === ethertypeIpv6 ? sim.passage.zone?.state.book : undefined
  const at = isSource ? 10 : 14
  const address = book === undefined ? word(sim.work, at) : numberAt(book, sim.work, at)
  const words = { zone, src: src | 0, dst: dst | 0, ports: ports | 0 }
  const track: FragmentTrack = { ...words, isSource, address, book }
  sim.effects.push({ kind: 'addFragment', track })
}

type Place = readonly [zone: number, src: number, dst: number, id: number]

/** Zone, kind and protocol in one word, addresses, Identification. */
function placeOf(sim: Simulation, kind: FragmentKind): Place {
  const { passage, work } = sim
  const isIpv6 = work[8] === ethertypeIpv6
  passage.unkeyed = true
  // Of IPv6, later fragments do not say their protocol.
  const protocol = isIpv6 ? 0 : word(work, 9) & 0xff
  sim.seeProtocol()
  const book = passage.zone?.state.book
  const zone = zoneWord(zoneOf(passage.zone?.number ?? 0, isIpv6), keyKinds[kind], protocol)
  const id = (passage.packet && fragmentIdOf(passage.packet)) ?? 0
  if (isIpv6 && book !== undefined) {
    sim.seeIpv6Src(128)
    sim.seeIpv6Dst(128)
    return [zone, numberAt(book, work, 10), numberAt(book, work, 14), id]
  }
  sim.seeIpSrc(32)
  sim.seeIpDst(32)
  return [zone, word(work, 10), word(work, 14), id]
}
