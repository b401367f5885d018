/** The router by which a network's own router reaches the outside, found or made on a draft. */
import type { Network, Router } from '../topology/model.ts'
import type { Draft } from '../topology/store.ts'
import { DriverError } from './error.ts'
import type { NetworkPlan } from './network.ts'

type Provided = Pick<Network, 'provider' | 'ownsProvider'>

/**
 * What a network says of its provider. A router has one provider or none: later networks of it
 * need not name it, and must not name another. @throws DriverError code `CONFLICT`
 */
export function findProvider(draft: Draft, plan: NetworkPlan, router: Router): Provided {
  const name = plan.options.provider
  const networks = draft.list('network')
  const sibling = networks.find((network) => network.router === router.id)
  const known = sibling?.provider === undefined ? undefined : draft.get('router', sibling.provider)
  if (name === undefined && known === undefined) return {}
  if (known !== undefined && sibling !== undefined) {
    if (name !== undefined && name !== known.name) throw otherProvider(router, known, name)
    return { provider: known.id, ownsProvider: sibling.ownsProvider ?? false }
  }
  const isProvider = networks.some((network) => network.provider === router.id)
  if (sibling !== undefined || isProvider) throw otherProvider(router, undefined, name ?? '')
  const device = draft.list('router').find((one) => one.name === name)
  if (device === undefined) return { provider: plan.newId(), ownsProvider: true }
  const user = networks.find((network) => network.provider === device.id)
  const owner = networks.find((network) => network.router === device.id)
  if (owner?.provider !== undefined) throw otherProvider(device, undefined, name ?? '')
  return {
    provider: device.id,
    ownsProvider: (user?.ownsProvider ?? false) || (owner?.ownsRouter ?? false),
  }
}

/** Makes the provider's router when it is not there. */
export function putProvider(draft: Draft, { provider }: Network, name: string | undefined): void {
  if (provider === undefined || draft.get('router', provider) !== undefined) return
  draft.put('router', { id: provider, adminUp: true, ...(name !== undefined && { name }) })
}

function otherProvider(router: Router, known: Router | undefined, name: string): DriverError {
  const has = known === undefined ? 'has an uplink or a provider' : `has provider ${known.name}`
  const what = `midonet: router ${router.name ?? router.id.slice(0, 12)} ${has} already`
  return new DriverError(
    'CONFLICT',
    `${what} and cannot get ${name}; leave org.midonet.provider out, or name another router`,
  )
}
