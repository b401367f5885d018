import test, { type ExecutionContext } from 'ava'
import { deleteWhole } from '../../topology/cascade.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Draft, Store } from '../../topology/store.ts'

const balancer = { id: 'lb', router: 'r', adminUp: true } as const
const pool = { id: 'web', loadBalancer: 'lb', adminUp: true, healthMonitor: 'hm' } as const
const member = { id: 'm', pool: 'web', address: '10.1.0.2', port: 80, weight: 1, adminUp: true }
const vip = {
  id: 'v',
  loadBalancer: 'lb',
  pool: 'web',
  address: '20.0.0.9',
  protocol: 'tcp',
  port: 80,
  persistence: 'none',
  adminUp: true,
} as const
const monitor = {
  id: 'hm',
  kind: 'tcp',
  delaySeconds: 5,
  timeoutSeconds: 3,
  maxRetries: 3,
  adminUp: true,
} as const

async function open(): Promise<Store> {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    draft.put('router', { id: 'r', adminUp: true })
    draft.put('router', { id: 'r2', adminUp: true })
    draft.put('healthMonitor', monitor)
    draft.put('loadBalancer', balancer)
    draft.put('balancerPool', pool)
    draft.put('poolMember', member)
    draft.put('vip', vip)
  })
  return store
}

async function refuses(
  t: ExecutionContext,
  code: string,
  message: RegExp,
  work: (draft: Draft) => void,
): Promise<void> {
  const error = await t.throwsAsync((await open()).transact(work))
  t.regex(error?.message ?? '', message)
  t.is(Reflect.get(error ?? {}, 'code'), code)
}

test('what no packet could reach is refused with what to write instead', async (t) => {
  const other = { ...balancer, id: 'lb2', router: 'r2' }
  await refuses(t, 'INVALID', /vip v: 224\.0\.0\.1 is no address of a host/, (d) =>
    d.put('vip', { ...vip, address: '224.0.0.1' }),
  )
  await refuses(t, 'INVALID', /poolMember m: 127\.0\.0\.1 is no address/, (d) =>
    d.put('poolMember', { ...member, address: '127.0.0.1' }),
  )
  await refuses(t, 'INVALID', /pool web is of loadBalancer lb; name a pool of lb2/, (d) => {
    d.put('loadBalancer', other)
    d.put('vip', { ...vip, loadBalancer: 'lb2' })
  })
  // A pool that moves must not leave its VIPs behind.
  await refuses(t, 'INVALID', /vip v: pool web is of loadBalancer lb2/, (d) => {
    d.put('loadBalancer', other)
    d.put('balancerPool', { ...pool, loadBalancer: 'lb2' })
  })
})

test('one balancer a router, one VIP a port, a server once in a pool', async (t) => {
  await refuses(t, 'CONFLICT', /router r has a load balancer/, (d) =>
    d.put('loadBalancer', { ...balancer, id: 'lb2' }),
  )
  await refuses(t, 'CONFLICT', /tcp 20\.0\.0\.9:80 is taken/, (d) =>
    d.put('vip', { ...vip, id: 'v2' }),
  )
  await refuses(t, 'CONFLICT', /10\.1\.0\.2:80 is in pool web/, (d) =>
    d.put('poolMember', { ...member, id: 'm2' }),
  )
  const store = await open()
  await store.transact((d) => d.put('vip', { ...vip, id: 'v2', protocol: 'udp' }))
  t.is(store.list('vip').length, 2)
})

test('a monitor in use stays; a balancer goes with all that is its', async (t) => {
  await refuses(t, 'IN_USE', /healthMonitor hm is in use by balancerPool web/, (d) =>
    d.delete('healthMonitor', 'hm'),
  )
  const store = await open()
  await store.transact((d) => deleteWhole(d, 'router', 'r'))
  for (const kind of ['loadBalancer', 'balancerPool', 'poolMember', 'vip'] as const)
    t.deepEqual(store.list(kind), [])
  t.is(store.list('healthMonitor').length, 1)
})
