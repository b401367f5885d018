/** The topology over HTTP: collections, preconditions, transactions, streams. */
import test from 'ava'
import { limits as watchLimits } from '../../driver/rest/watch.ts'
import { startAgent } from './agent.ts'
import { events, rest } from './rest-client.ts'

const router = { id: 'r', adminUp: true }
const routerPort = (id: string, address: string) => ({
  id,
  kind: 'router',
  router: 'r',
  adminUp: true,
  mac: `02:00:00:00:00:0${id.slice(-1)}`,
  addresses: [address],
})

test('an object is made, read, changed and deleted', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  const made = await rest(path, 'POST', '/v1/router', { body: { name: 'shop', adminUp: true } })
  t.is(made.status, 201)
  const { id } = made.body as { id: string }
  t.regex(id, /^[0-9a-f-]{36}$/)
  t.is(made.headers.location, `/v1/router/${id}`)
  const read = await rest(path, 'GET', `/v1/router/${id}`)
  t.deepEqual(read.body, { id, name: 'shop', adminUp: true })
  t.is(read.headers.etag, made.headers.etag)
  const patched = await rest(path, 'PATCH', `/v1/router/${id}`, {
    body: { name: null, adminUp: false },
  })
  t.deepEqual(patched.body, { id, adminUp: false })
  const replaced = await rest(path, 'PUT', `/v1/router/${id}`, { body: { adminUp: true } })
  t.deepEqual([replaced.status, replaced.body], [200, { id, adminUp: true }])
  t.is((await rest(path, 'DELETE', `/v1/router/${id}`)).status, 204)
  t.is((await rest(path, 'GET', `/v1/router/${id}`)).status, 404)
  t.is((await rest(path, 'DELETE', `/v1/router/${id}`)).status, 404)
  t.is((await rest(path, 'PUT', '/v1/router/x', { body: { adminUp: true } })).status, 201)
})

test('who changes what another has changed meanwhile is held back', async (t) => {
  const { apiSocketPath: path, store } = await startAgent(t)
  const made = await rest(path, 'POST', '/v1/router', { body: router })
  const stale = { 'If-Match': String(made.headers.etag) }
  t.is(
    (await rest(path, 'PATCH', '/v1/router/r', { body: { name: 'a' }, headers: stale })).status,
    200,
  )
  for (const [method, body] of [
    ['PATCH', { name: 'b' }],
    ['PUT', router],
    ['DELETE', undefined],
  ] as const) {
    const late = await rest(path, method, '/v1/router/r', { body, headers: stale })
    t.is(late.status, 412, method)
    t.like(late.body, { code: 'PRECONDITION_FAILED' })
  }
  t.is(store.get('router', 'r')?.name, 'a')
  const only = { 'If-None-Match': '*' }
  t.is((await rest(path, 'PUT', '/v1/router/r', { body: router, headers: only })).status, 412)
  const current = String((await rest(path, 'GET', '/v1/router/r')).headers.etag)
  const unchanged = { 'If-None-Match': current }
  t.is((await rest(path, 'GET', '/v1/router/r', { headers: unchanged })).status, 304)
})

test('errors name the field and leave nothing behind', async (t) => {
  const { apiSocketPath: path, store } = await startAgent(t)
  await rest(path, 'POST', '/v1/router', { body: router })
  const before = store.revision
  const bad = [
    ['POST', '/v1/port', { ...routerPort('p1', '10.1.0.300/24') }, 400, { field: 'addresses.0' }],
    [
      'POST',
      '/v1/port',
      { ...routerPort('p1', '10.1.0.1/24'), router: 'x' },
      409,
      {
        code: 'MISSING_REFERENCE',
      },
    ],
    ['POST', '/v1/port', { ...routerPort('p1', '10.1.0.0/24') }, 400, { code: 'INVALID' }],
    ['PUT', '/v1/router/r', { id: 'other', adminUp: true }, 400, { code: 'INVALID_REQUEST' }],
    ['PATCH', '/v1/router/r', { adminUp: 'yes' }, 400, { field: 'adminUp' }],
    ['PATCH', '/v1/router/r', [1], 400, { code: 'INVALID_REQUEST' }],
    [
      'PATCH',
      '/v1/router/r',
      '{"__proto__":{"adminUp":false},"adminUp":true}',
      400,
      {
        code: 'INVALID_OBJECT',
      },
    ],
    ['POST', '/v1/router', router, 409, { code: 'CONFLICT' }],
    ['POST', '/v1/network', {}, 403, { code: 'FORBIDDEN' }],
    ['GET', '/v1/router?limit=0', undefined, 400, { code: 'INVALID_REQUEST' }],
    ['GET', '/v1/router/r/nothing', undefined, 404, { code: 'NOT_FOUND' }],
    ['GET', '/v1/router/x/port', undefined, 404, { code: 'NOT_FOUND' }],
  ] as const
  for (const [method, target, body, status, like] of bad) {
    const answer = await rest(path, method, target, { body })
    t.is(answer.status, status, `${method} ${target}: ${answer.text}`)
    t.like(answer.body, like)
  }
  t.is(store.revision, before)
})

test('lists are filtered and come in pages', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  await rest(path, 'POST', '/v1/router', { body: router })
  const operations = Array.from({ length: 25 }, (_, at) => ({
    op: 'create',
    kind: 'route',
    id: `route-${String(at).padStart(2, '0')}`,
    value: {
      router: 'r',
      src: '0.0.0.0/0',
      dst: `10.${at}.0.0/16`,
      action: at % 5 === 0 ? 'reject' : 'blackhole',
      weight: at,
    },
  }))
  const done = await rest(path, 'POST', '/v1/transaction', { body: { operations } })
  t.is(done.status, 200, done.text)
  const seen: string[] = []
  let next: string | undefined = '/v1/route?limit=10&action=blackhole'
  for (let page = 0; next !== undefined; page++) {
    const answer = await rest(path, 'GET', next)
    const items = answer.body as { id: string; action: string }[]
    t.true(items.length <= 10 && items.every(({ action }) => action === 'blackhole'))
    seen.push(...items.map(({ id }) => id))
    next = /<([^>]+)>; rel="next"/.exec(String(answer.headers.link))?.[1]
    t.true(page < 3)
  }
  t.is(seen.length, 20)
  t.deepEqual(seen, seen.toSorted())
  const weighty = await rest(path, 'GET', '/v1/route?weight=7')
  t.deepEqual(
    (weighty.body as { id: string }[]).map(({ id }) => id),
    ['route-07'],
  )
  const ofRouter = await rest(path, 'GET', '/v1/router/r/route')
  t.is((ofRouter.body as unknown[]).length, 25)
})

test('a transaction is done whole or not at all', async (t) => {
  const { apiSocketPath: path, store } = await startAgent(t)
  const link = (peer: string) => ({ kind: 'bridge', bridge: 'b', adminUp: true, peer })
  const both = [
    { op: 'create', kind: 'router', value: router },
    { op: 'create', kind: 'bridge', value: { id: 'b', adminUp: true } },
    { op: 'create', kind: 'port', value: { ...routerPort('p1', '10.1.0.1/24'), peer: 'p2' } },
    { op: 'create', kind: 'port', id: 'p2', value: link('p1') },
  ]
  const half = await rest(path, 'POST', '/v1/transaction', {
    body: { operations: both.slice(0, 3) },
  })
  t.is(half.status, 409)
  t.is(store.list('router').length, 0)
  const whole = await rest(path, 'POST', '/v1/transaction', { body: { operations: both } })
  t.is(whole.status, 200, whole.text)
  t.is(store.get('port', 'p2')?.peer, 'p1')
  const refused = await rest(path, 'DELETE', '/v1/router/r')
  t.is(refused.status, 409)
  t.like(refused.body, { code: 'IN_USE' })
  t.is((await rest(path, 'DELETE', '/v1/router/r?cascade=true')).status, 204)
  t.is(store.get('port', 'p1'), undefined)
  t.is(store.get('port', 'p2')?.peer, undefined)
  t.is(store.list('bridge').length, 1)
})

test('a stream tells what stands, then each change in order', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  await rest(path, 'POST', '/v1/router', { body: router })
  const stream = events(path, '/v1/watch?kind=router,chain&list=true', (text) =>
    text.includes('"id":"r"}'),
  )
  await stream.opened
  await rest(path, 'POST', '/v1/bridge', { body: { id: 'unseen', adminUp: true } })
  await rest(path, 'POST', '/v1/chain', { body: { id: 'c' } })
  await rest(path, 'DELETE', '/v1/router/r')
  const text = await stream.text
  const changes = [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? ''))
  t.deepEqual(changes, [
    { kind: 'router', id: 'r', value: router },
    {},
    { kind: 'chain', id: 'c', value: { id: 'c' } },
    { kind: 'router', id: 'r' },
  ])
  const revisions = [...text.matchAll(/^id: (\d+)$/gm)].map(([, revision]) => Number(revision))
  t.deepEqual(
    revisions,
    revisions.toSorted((a, b) => a - b),
  )
})

test('a stream that ends makes room, and one more than there is room for is refused', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  for (let count = 0; count < watchLimits.watchersMax + 5; count++)
    await events(path, '/v1/watch?kind=router', () => true).text
  const open = Array.from({ length: watchLimits.watchersMax }, () =>
    events(path, '/v1/watch?kind=router', (text) => text.includes('change')),
  )
  await Promise.all(open.map(({ opened }) => opened))
  const refused = await rest(path, 'GET', '/v1/watch')
  t.is(refused.status, 503)
  t.like(refused.body, { code: 'BUSY' })
  await rest(path, 'POST', '/v1/router', { body: router })
  await Promise.all(open.map(({ text }) => text))
})

test('what stands is told whole, also when it is more than may wait of changes', async (t) => {
  const { apiSocketPath: path, store } = await startAgent(t)
  const count = 20_000
  await store.transact((draft) => {
    draft.put('bridge', { id: 'b', adminUp: true })
    for (let at = 0; at < count; at++) {
      const id = `${'p'.repeat(180)}${at}`
      draft.put('port', { id, kind: 'bridge', bridge: 'b', adminUp: true })
    }
  })
  const stream = events(path, '/v1/watch?kind=port&list=true', (text) => text.endsWith('{}\n\n'))
  const text = await stream.text
  t.true(text.length > watchLimits.waitingSizeMax)
  t.is(text.match(/^event: change$/gm)?.length, count)
})

test('who asks for what is applied is told when the datapath reflects it, in order', async (t) => {
  const waiting: (() => void)[] = []
  const settled = () => new Promise<void>((resolve) => waiting.push(resolve))
  const { apiSocketPath: path, store } = await startAgent(t, { settled })
  const all = events(path, '/v1/watch?kind=router&applied=true', (text) => /"b"/.test(text))
  await all.opened
  for (const id of ['a', 'b'])
    await store.transact((draft) => draft.put('router', { id, adminUp: true }))
  const early = Promise.race([all.text, new Promise((resolve) => setTimeout(resolve, 50))])
  t.is(await early, undefined)
  t.is(waiting.length, 2)
  for (const resolve of waiting.reverse()) resolve()
  t.regex(await all.text, /"id":"a".*"id":"b"/s)
})
