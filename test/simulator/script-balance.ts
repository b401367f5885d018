/**
 * The scripts' language for load balancing:
 *
 *   balancer ID on ROUTER [down]               pool ID of BALANCER [down]
 *   monitor ID delay=SECONDS timeout=SECONDS retries=N       (pool … monitor=ID)
 *   health                                     what is found of members, and written down
 *   member ID in POOL at=IP:PORT [weight=N] [down] [ill]
 *   vip ID to POOL at=IP:PORT [protocol=udp] [sticky] [down]
 */
import { schemas } from '../../topology/model.ts'
import type { Words } from './script-policy.ts'
import { put, type World } from './world.ts'

export const balanceChanges: Readonly<Record<string, (world: World, words: Words) => void>> = {
  balancer: (world, { plain: [id = '', , router = '', ...states] }) =>
    world.put(put('loadBalancer', { id, router, adminUp: !states.includes('down') })),

  pool(world, { plain: [id = '', , loadBalancer = '', ...states], options }) {
    const healthMonitor = options.get('monitor')
    const monitored = healthMonitor === undefined ? {} : { healthMonitor }
    const adminUp = !states.includes('down')
    world.put(put('balancerPool', { id, loadBalancer, adminUp, ...monitored }))
  },

  monitor: (world, { plain: [id = ''], options }) =>
    world.put(
      put('healthMonitor', {
        id,
        kind: 'tcp',
        delaySeconds: Number(options.get('delay')),
        timeoutSeconds: Number(options.get('timeout')),
        maxRetries: Number(options.get('retries')),
        adminUp: true,
      }),
    ),

  member(world, { plain: [id = '', , pool = '', ...states], options }) {
    const value = {
      id,
      pool,
      ...placeOf(options),
      weight: Number(options.get('weight') ?? 1),
      adminUp: !states.includes('down'),
      ...(states.includes('ill') && { status: 'inactive' }),
    }
    world.put(put('poolMember', schemas.poolMember.parse(value)))
  },

  vip(world, { plain: [id = '', , pool = '', ...states], options }) {
    const value = {
      id,
      pool,
      loadBalancer: world.topology.get('balancerPool', pool)?.loadBalancer,
      ...placeOf(options),
      protocol: options.get('protocol') ?? 'tcp',
      persistence: states.includes('sticky') ? 'sourceIp' : 'none',
      adminUp: !states.includes('down'),
    }
    world.put(put('vip', schemas.vip.parse(value)))
  },
}

/** What was found since the last time; the store hears of it, as from an agent. */
export function showHealth(world: World): string[] {
  return world.forwarder.takeHealth().map(({ member, status }) => {
    const known = world.topology.get('poolMember', member)
    if (known !== undefined) world.put(put('poolMember', { ...known, status }))
    return `member ${member}: ${status}`
  })
}

function placeOf(options: Words['options']) {
  const [address, port] = options.get('at')?.split(':') ?? []
  return { address, port: Number(port) }
}
