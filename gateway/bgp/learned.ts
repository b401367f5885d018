/**
 * Routes that a daemon has learned, as the topology tells them to all hosts: the kernel's routes in
 * the daemon's namespace, each next hop an object of its own.
 */
import type { KernelRoute } from '../../datapath/link.ts'
import { learnedWeights, shortHash } from '../../topology/bgp.ts'
import type { LearnedRoute } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'
import type { SpeakingRouter } from './plan.ts'

/** rtm_protocol of routes that zebra writes for bgpd: RTPROT_BGP of linux/rtnetlink.h. */
export const bgpProtocol = 186

export const limits = {
  /** Objects written in one transaction. */
  batch: 500,
} as const

export interface Learned {
  readonly routes: ReadonlyMap<string, LearnedRoute>
  /** Destinations left out because there are more than may be. */
  readonly refused: number
}

/**
 * The learned routes of a router on a host. `portOf` names the port of an interface's index. Beyond
 * `max` destinations those that come last in the kernel's order are left out.
 */
export function learnedRoutes(
  router: SpeakingRouter,
  host: string,
  kernel: Iterable<KernelRoute>,
  portOf: (index: number) => string | undefined,
  max: number,
): Learned {
  const internal = new Set(
    router.ports
      .flatMap(({ peers }) => peers)
      .filter(({ asn }) => asn === router.asn)
      .map(({ address }) => address),
  )
  const routes = new Map<string, LearnedRoute>()
  let [count, refused] = [0, 0]
  for (const { dst, hops } of kernel) {
    const usable = hops.filter(({ isDown }) => !isDown)
    if (usable.length === 0) continue
    if (++count > max) {
      refused++
      continue
    }
    for (const { gateway, index } of usable) {
      const port = portOf(index)
      if (port === undefined || gateway === undefined) continue
      const id = learnedId(router.id, host, `${dst.replace('/', '-')}_${gateway}`)
      const weight = internal.has(gateway) ? learnedWeights.internal : learnedWeights.external
      routes.set(id, { id, router: router.id, dst, port, gateway, weight, host })
    }
  }
  return { routes, refused }
}

/** Brings the store to hold just these of a router on a host; says how many it changed. */
export async function writeLearned(
  store: Store,
  router: string,
  host: string,
  wanted: ReadonlyMap<string, LearnedRoute>,
): Promise<number> {
  const standing = new Map(
    store
      .list('learnedRoute')
      .filter((one) => one.router === router && one.host === host)
      .map((one) => [one.id, one]),
  )
  const gone = [...standing.keys()].filter((id) => !wanted.has(id))
  const come = [...wanted.values()].filter((one) => !isSame(one, standing.get(one.id)))
  const total = gone.length + come.length
  while (gone.length + come.length > 0) {
    // What goes goes first: its packets are lost while it stands.
    const removed = gone.splice(0, limits.batch)
    const added = come.splice(0, limits.batch - removed.length)
    await store.transact((draft) => {
      for (const id of removed) draft.delete('learnedRoute', id)
      if (draft.get('router', router) === undefined) return
      for (const one of added)
        if (draft.get('port', one.port) !== undefined) draft.put('learnedRoute', one)
    })
  }
  return total
}

function learnedId(router: string, host: string, rest: string): string {
  const id = `${router}_${host}_${rest}`
  return id.length <= 192 ? id : `${shortHash(router)}_${shortHash(host)}_${rest}`
}

function isSame(a: LearnedRoute, b: LearnedRoute | undefined): boolean {
  return b !== undefined && a.weight === b.weight && a.port === b.port && a.gateway === b.gateway
}
