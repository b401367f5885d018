import test from 'ava'
import fc from 'fast-check'
import {
  type PoolRequest,
  releaseAddress,
  releasePool,
  requestAddress,
  requestPool,
} from '../../topology/allocate.ts'
import { TopologyError } from '../../topology/error.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Pool } from '../../topology/model.ts'
import type { Store } from '../../topology/store.ts'

const space = 'local'

async function run<T>(store: Store, work: Parameters<typeof store.transact<T>>[0]): Promise<T> {
  return (await store.transact(work)).value
}

async function storeWithPool(
  request: Omit<PoolRequest, 'space'>,
): Promise<{ readonly store: Store; readonly pool: Pool }> {
  const store = await openMemoryStore()
  return { store, pool: await run(store, (draft) => requestPool(draft, { space, ...request })) }
}

function take(store: Store, pool: Pool, address?: string): Promise<string> {
  return run(store, (draft) => requestAddress(draft, pool.id, { address }))
}

async function takeMany(store: Store, pool: Pool, count: number): Promise<readonly string[]> {
  const taken: string[] = []
  for (let done = 0; done < count; done += 1) taken.push(await take(store, pool))
  return taken
}

test('a pool has an id that follows from its space and subnet', async (t) => {
  const { pool } = await storeWithPool({ subnet: '10.1.0.0/24', range: '10.1.0.64/26' })
  t.deepEqual(pool, {
    id: 'local_10.1.0.0-24',
    space,
    subnet: '10.1.0.0/24',
    range: '10.1.0.64/26',
    references: 1,
  })
  const v6 = await storeWithPool({ subnet: 'FD00:9:0::/64', v6: true })
  t.is(v6.pool.id, 'local_fd00:9::-64')
  t.is(v6.pool.subnet, 'fd00:9::/64')
})

test('a pool asked for again is the same one, gone with the last release', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/24' })
  const again = await run(store, (draft) => requestPool(draft, { space, subnet: '10.1.0.0/24' }))
  t.deepEqual(again, { ...pool, references: 2 })
  await take(store, pool)

  await run(store, (draft) => releasePool(draft, pool.id))
  t.is(store.get('pool', pool.id)?.references, 1)
  t.is(store.list('address').length, 1)
  await run(store, (draft) => releasePool(draft, pool.id))
  await run(store, (draft) => releasePool(draft, pool.id))
  t.deepEqual(store.list('pool'), [])
  t.deepEqual(store.list('address'), [])
})

test('overlapping subnets are refused in one space and stand in two', async (t) => {
  const { store } = await storeWithPool({ subnet: '10.1.0.0/24' })
  const wider = (other: string) =>
    run(store, (draft) => requestPool(draft, { space: other, subnet: '10.1.0.0/16' }))
  await t.throwsAsync(wider(space), {
    code: 'CONFLICT',
    message: /10\.1\.0\.0\/16 overlaps with 10\.1\.0\.0\/24 .*choose another subnet/,
  })
  t.is((await wider('other')).id, 'other_10.1.0.0-16')
})

test('a pool is given out from one range', async (t) => {
  const { store } = await storeWithPool({ subnet: '10.1.0.0/24', range: '10.1.0.64/26' })
  const all = run(store, (draft) => requestPool(draft, { space, subnet: '10.1.0.0/24' }))
  await t.throwsAsync(all, { code: 'CONFLICT', message: /10\.1\.0\.64\/26 already/ })
})

const senseless: readonly (readonly [Omit<PoolRequest, 'space'>, RegExp])[] = [
  [{ subnet: 'none' }, /subnet none is no network/],
  [{ subnet: '10.1.0.7/24' }, /has host bits; use 10\.1\.0\.0\/24/],
  [{ subnet: '10.1.0.0/24', v6: true }, /is not IPv6/],
  [{ subnet: 'fd00::/64', v6: false }, /is not IPv4/],
  [{ subnet: '10.1.0.0/24', range: '10.2.0.0/25' }, /not within 10\.1\.0\.0\/24/],
  [{ subnet: '10.1.0.0/24', range: 'fd00::/64' }, /not within/],
  [{ range: '10.2.0.0/25' }, /a range needs a subnet/],
]

for (const [request, message] of senseless) {
  test(`a pool that makes no sense is refused: ${JSON.stringify(request)}`, async (t) => {
    await t.throwsAsync(storeWithPool(request), { code: 'INVALID', message })
  })
}

test('a subnet is chosen where nothing is, neither a pool nor what is to be avoided', async (t) => {
  const { store, pool } = await storeWithPool({})
  const choose = (request: Omit<PoolRequest, 'space'>) =>
    run(store, (draft) => requestPool(draft, { space, ...request }).subnet)
  t.is(pool.subnet, '172.30.0.0/24')
  t.is(await choose({}), '172.30.1.0/24')
  t.is(await choose({ avoid: ['172.30.2.9/32', '172.30.0.0/22', 'fd00::/8'] }), '172.30.4.0/24')
  t.is(await choose({}), '172.30.2.0/24')
  t.is(await choose({ avoid: ['172.16.0.0/12'] }), '10.64.0.0/24')
  t.is(await choose({ v6: true }), 'fd6d:6964:6f00::/64')
  t.is(await choose({ v6: true }), 'fd6d:6964:6f00:1::/64')
  const none = choose({ avoid: ['0.0.0.0/0'] })
  await t.throwsAsync(none, { code: 'INVALID', message: /name a subnet/ })
})

test('neither the network address nor the broadcast address is given out', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/29' })
  t.deepEqual(
    await takeMany(store, pool, 6),
    [1, 2, 3, 4, 5, 6].map((last) => `10.1.0.${last}`),
  )
  await t.throwsAsync(take(store, pool), { code: 'INVALID', message: /all addresses .* are taken/ })
  for (const address of ['10.1.0.0', '10.1.0.7']) {
    await t.throwsAsync(take(store, pool, address), { code: 'INVALID', message: /no host's/ })
  }
})

test('links of two and of one address are used whole', async (t) => {
  const two = await storeWithPool({ subnet: '10.1.0.0/31' })
  t.deepEqual(await takeMany(two.store, two.pool, 2), ['10.1.0.0', '10.1.0.1'])
  const one = await storeWithPool({ subnet: 'fd00::7/128' })
  t.is(await take(one.store, one.pool), 'fd00::7')
  await t.throwsAsync(take(one.store, one.pool), { code: 'INVALID' })
})

test('addresses are given from the range, and asked for from all of the subnet', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/24', range: '10.1.0.0/30' })
  t.deepEqual(await takeMany(store, pool, 3), ['10.1.0.1', '10.1.0.2', '10.1.0.3'])
  await t.throwsAsync(take(store, pool), { code: 'INVALID', message: /10\.1\.0\.0\/30/ })
  t.is(await take(store, pool, '10.1.0.254'), '10.1.0.254')
})

test('an address that is taken, or not of the pool, is refused', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/24' })
  t.is(await take(store, pool, '10.1.0.9'), '10.1.0.9')
  await t.throwsAsync(take(store, pool, '10.1.0.9'), {
    code: 'CONFLICT',
    message: /10\.1\.0\.9 is taken/,
  })
  for (const address of ['10.2.0.9', 'fd00::9', 'x']) {
    await t.throwsAsync(take(store, pool, address), { code: 'INVALID', message: /is not in/ })
  }
  const nowhere = run(store, (draft) => requestAddress(draft, 'none'))
  await t.throwsAsync(nowhere, { code: 'MISSING_REFERENCE', message: /request the pool first/ })
})

test('an IPv6 address is taken however it is written', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: 'fd00:9::/64' })
  t.is(await take(store, pool, 'FD00:9:0::0005'), 'fd00:9::5')
  await t.throwsAsync(take(store, pool, 'fd00:9::5'), { code: 'CONFLICT' })
  await run(store, (draft) => releaseAddress(draft, pool.id, 'fd00:0009::05'))
  t.is(await take(store, pool, 'fd00:9::5'), 'fd00:9::5')
})

test('a gateway is marked as one', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/24' })
  const given = await run(store, (draft) => requestAddress(draft, pool.id, { gateway: true }))
  t.deepEqual(store.list('address'), [
    { id: 'local_10.1.0.0-24_10.1.0.1', pool: pool.id, address: given, gateway: true },
  ])
})

test('a released address rests until the pool has been gone through', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/29' })
  await takeMany(store, pool, 3)
  await run(store, (draft) => releaseAddress(draft, pool.id, '10.1.0.2'))
  await run(store, (draft) => releaseAddress(draft, pool.id, '10.1.0.2'))
  t.deepEqual(await takeMany(store, pool, 4), ['10.1.0.4', '10.1.0.5', '10.1.0.6', '10.1.0.2'])
})

test('large pools are not walked through', async (t) => {
  const start = process.cpuUsage()
  for (const [subnet, first] of [
    ['10.0.0.0/8', '10.0.0.1'],
    ['fd00::/64', 'fd00::1'],
    ['fd00::/8', 'fd00::1'],
  ] as const) {
    const { store, pool } = await storeWithPool({ subnet })
    t.is(await take(store, pool), first)
  }
  // The time of a processor that may be busy with other tests, too; a walk would take hours.
  t.true(process.cpuUsage(start).user < 2_000_000)
})

test('a hundred requests at once get a hundred addresses', async (t) => {
  const { store, pool } = await storeWithPool({ subnet: '10.1.0.0/24' })
  const given = await Promise.all(Array.from({ length: 100 }, () => take(store, pool)))
  t.is(new Set(given).size, 100)
})

const step = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: 'take' } as const) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('ask' as const), host: fc.nat(40) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('free' as const), host: fc.nat(40) }) },
)
const subnets = [
  { subnet: '10.1.0.0/28', prefix: '10.1.0.', base: 10, hosts: [1, 14] },
  { subnet: 'fd00::/124', prefix: 'fd00::', base: 16, hosts: [1, 15] },
] as const

for (const { subnet, prefix, base, hosts } of subnets) {
  const [low, high] = hosts
  test(`random requests and releases never give an address of ${subnet} twice`, async (t) => {
    const play = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { store, pool } = await storeWithPool({ subnet })
      const taken = new Set<string>()
      const outcome = async (address?: string) =>
        take(store, pool, address).catch((error: unknown) => {
          if (error instanceof TopologyError) return error.code
          throw error
        })
      for (const one of steps) {
        const text = one.kind === 'take' ? undefined : `${prefix}${one.host.toString(base)}`
        if (one.kind === 'free') {
          await run(store, (draft) => releaseAddress(draft, pool.id, text ?? ''))
          taken.delete(text ?? '')
          continue
        }
        const got = await outcome(text)
        const full = taken.size > high - low
        const outside = one.kind === 'ask' && (one.host < low || one.host > high)
        if (one.kind === 'take' ? full : outside) t.is(got, 'INVALID')
        else if (text !== undefined && taken.has(text)) t.is(got, 'CONFLICT')
        else {
          t.false(taken.has(got))
          if (text !== undefined) t.is(got, text)
          taken.add(got)
        }
      }
      t.deepEqual(
        store
          .list('address')
          .map(({ address }) => address)
          .sort(),
        [...taken].sort(),
      )
    })
    await t.notThrowsAsync(fc.assert(play, { numRuns: 150 }))
  })
}
