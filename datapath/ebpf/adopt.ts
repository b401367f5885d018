/** Finds what an agent before has left in this network namespace: ports, and the maps with its flows. */
import createDebug from 'debug'
import type { NetlinkSocket } from '../netlink.ts'
import { listLinks } from '../rtnetlink.ts'
import { findAttached } from './attach.ts'
import { describeProgram } from './bpf.ts'
import { adoptMaps, type Maps } from './maps.ts'

const debug = createDebug('midonet:datapath')

export interface LeftPort {
  readonly index: number
  readonly name: string
  /** Whether its program uses the maps that are adopted. */
  readonly isOurs: boolean
  /** The kernel's number of its program. */
  readonly programId: number
}

export interface Left {
  readonly ports: readonly LeftPort[]
  /** Undefined when there are none that this version can use. */
  readonly maps: Maps | undefined
}

/** Programs of the datapath `name` mark the ports. */
export function findLeft(links: NetlinkSocket, name: string): Left {
  const found = listLinks(links).flatMap((link) => {
    const attached = findAttached(links, link.index, name)
    return attached === undefined ? [] : [{ link, programId: attached.programId }]
  })
  if (found.length === 0) return { ports: [], maps: undefined }

  // An agent that died while it replaced programs leaves two kinds: most ports decide.
  const programs = new Map<number, { readonly maps: string; count: number }>()
  for (const { programId } of found) {
    const known = programs.get(programId)
    const details = known === undefined ? describeProgram(programId) : undefined
    if (known !== undefined) known.count++
    else if (details !== undefined)
      programs.set(programId, { maps: details.mapIds.join(), count: 1 })
  }
  const [best] = [...programs].sort(([, a], [, b]) => b.count - a.count)
  const maps = best === undefined ? undefined : adoptMaps(best[0])
  if (maps === undefined)
    debug('the flows left by another version cannot be used: starting without flows')
  const ports = found.map(({ link, programId }) => ({
    index: link.index,
    name: link.name,
    isOurs: maps !== undefined && programs.get(programId)?.maps === best?.[1].maps,
    programId,
  }))
  return { ports, maps }
}
