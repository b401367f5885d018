/** All collections, and how they hang together. */
import { balancing } from './balance.ts'
import { bgp } from './bgp.ts'
import type { Collection } from './collection.ts'
import { devices } from './device.ts'
import { dockers } from './docker.ts'
import { hosts } from './host.ts'
import { mirrors } from './mirror.ts'
import { policy } from './policy.ts'
import { routes } from './route.ts'
import { services } from './service.ts'

export const catalog: readonly Collection[] = [
  ...devices,
  ...routes,
  ...bgp,
  ...policy,
  ...services,
  ...balancing,
  ...mirrors,
  ...hosts,
  ...dockers,
]

/** What may stand below an object of `parent`, or at the top. */
export function childrenOf(parent: string | undefined): readonly Collection[] {
  return catalog.filter((one) => one.parent === parent)
}

/** The collection of a name below `parent`, else at the top when `parent` is undefined. */
export function findCollection(name: string, parent: string | undefined): Collection | undefined {
  return catalog.find((one) => one.name === name && one.parent === parent)
}

/** The collection that objects of a name are looked for in when nothing says below what. */
export function anyCollection(name: string): Collection | undefined {
  return findCollection(name, undefined) ?? catalog.find((one) => one.name === name)
}
