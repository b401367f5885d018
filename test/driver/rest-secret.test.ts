/** Secrets of the topology: taken by the API, told to nobody. */
import test from 'ava'
import { startAgent } from './agent.ts'
import { events, rest } from './rest-client.ts'

const peer = { id: 'p', router: 'r', asn: 3, address: '10.0.1.2', password: 'open-sesame' }

test('a password is told in no answer, and stays when what was told is written back', async (t) => {
  const { apiSocketPath: path, store } = await startAgent(t)
  await rest(path, 'POST', '/v1/router', { body: { id: 'r', adminUp: true } })
  const watch = '/v1/watch?kind=bgpPeer&list=true'
  const stream = events(path, watch, (text) => text.includes('"id":"p"'))
  await stream.opened
  const made = await rest(path, 'POST', '/v1/bgpPeer', { body: peer })
  t.is(made.status, 201)
  t.like(made.body, { asn: 3, password: '(hidden)' })
  const answers = [
    await stream.text,
    (await rest(path, 'GET', '/v1/bgpPeer')).text,
    (await rest(path, 'GET', '/v1/bgpPeer/p')).text,
    (await rest(path, 'GET', '/v1/router/r/bgpPeer')).text,
    (await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { bfd: true } })).text,
    (await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { asn: 'x' } })).text,
    (await rest(path, 'GET', '/v1/bgpPeer?password=open-sesame')).text,
  ]
  for (const text of answers) t.false(text.includes('sesame'))
  t.is(answers.at(-1), '[]')

  const told = (await rest(path, 'GET', '/v1/bgpPeer/p')).body as object
  t.is((await rest(path, 'PUT', '/v1/bgpPeer/p', { body: told })).status, 200)
  t.is(store.get('bgpPeer', 'p')?.password, 'open-sesame')
  await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { password: 'other' } })
  t.is(store.get('bgpPeer', 'p')?.password, 'other')
  await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { password: null } })
  t.false(Object.hasOwn(store.get('bgpPeer', 'p') ?? {}, 'password'))
  const none = await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { password: '(hidden)' } })
  t.is(none.status, 400)
})

test('an entity tag does not depend on the password', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  await rest(path, 'POST', '/v1/router', { body: { id: 'r', adminUp: true } })
  const one = await rest(path, 'POST', '/v1/bgpPeer', { body: peer })
  const other = await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { password: 'guess' } })
  t.is(one.headers.etag, other.headers.etag)
  const headers = { 'If-Match': String(one.headers.etag) }
  const changed = await rest(path, 'PATCH', '/v1/bgpPeer/p', { body: { asn: 4 }, headers })
  t.is(changed.status, 200)
})
