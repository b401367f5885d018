import test from 'ava'
import { dockerId, networkBody, send, startAgent } from './agent.ts'

test('status and traces are answered by whoever knows', async (t) => {
  const { apiSocketPath: path } = await startAgent(t)
  t.deepEqual(await send(path, 'GET', '/status'), { status: 200, body: { ready: true } })
  const trace = await send(path, 'POST', '/trace', { port: 'p', packet: 'icmp' })
  t.deepEqual(trace, { status: 200, body: { text: 'p icmp' } })
})

test('the topology can be read by kind and id', async (t) => {
  const { apiSocketPath: path, call } = await startAgent(t)
  const id = dockerId(1)
  await call('NetworkDriver.CreateNetwork', networkBody({ id, subnet: '10.1.0.0/24' }))
  const list = await send(path, 'GET', '/v1/bridge')
  t.deepEqual(list.body, [{ id, adminUp: true, mtu: 1500 }])
  t.deepEqual((await send(path, 'GET', `/v1/bridge/${id}`)).body, { id, adminUp: true, mtu: 1500 })
  t.is((await send(path, 'GET', `/v1/port/${encodeURIComponent(`${id}:router`)}`)).status, 200)
})

test('errors are JSON with a code and a message', async (t) => {
  const trace = async () => {
    throw new RangeError('x is no port; midonet status lists ports')
  }
  const { apiSocketPath: path } = await startAgent(t, { trace })
  const cases = [
    ['GET', '/v1/router/none', undefined, 404, 'NOT_FOUND'],
    ['GET', '/v1/constructor', undefined, 404, 'NOT_FOUND'],
    ['DELETE', '/v1/router/none', undefined, 404, 'NOT_FOUND'],
    ['GET', '/%zz', undefined, 404, 'NOT_FOUND'],
    ['POST', '/trace', undefined, 400, 'INVALID_REQUEST'],
    ['POST', '/trace', '{"port":', 400, undefined],
    ['POST', '/trace', '{"port":1,"packet":""}', 400, 'INVALID_REQUEST'],
    ['POST', '/trace', '{"port":"x","packet":"y"}', 400, 'INVALID_REQUEST'],
    ['POST', '/trace', `"${'x'.repeat(1024 * 1024)}"`, 413, undefined],
  ] as const
  for (const [method, target, body, status, code] of cases) {
    const answer = await send(path, method, target, body)
    t.is(answer.status, status, `${method} ${target} ${body?.slice(0, 30)}`)
    t.is(typeof answer.body?.message, 'string')
    if (code !== undefined) t.is(answer.body?.code, code)
  }
})

test('a status that fails is an error, not a hang', async (t) => {
  const status = async () => {
    throw new RangeError('no status')
  }
  const { apiSocketPath: path } = await startAgent(t, { status })
  t.deepEqual(await send(path, 'GET', '/status'), {
    status: 500,
    body: { code: 'INTERNAL', message: 'no status' },
  })
})
