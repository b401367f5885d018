import {
  existsSync,
  lstatSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { DriverContext } from '../../driver/context.ts'
import { createPluginApp } from '../../driver/server.ts'
import { limits, listenOnSocket, SocketError } from '../../driver/socket.ts'
import type { Store } from '../../topology/store.ts'
import { contextOf, dockerId, networkBody, post, send, startAgent } from './agent.ts'

const network = networkBody({ id: dockerId(1), subnet: '10.1.0.0/24' })

/** Sends bytes as they are and resolves with all that comes back before the other side closes. */
function sendRaw(path: string, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(path, () => socket.write(bytes))
    socket.on('data', (part) => {
      text += part.toString()
    })
    socket.on('close', () => resolve(text))
    socket.on('error', (error) => ('code' in error ? resolve(text) : reject(error)))
  })
}

test('the sockets are for root only', async (t) => {
  const { socketPath, apiSocketPath, dir } = await startAgent(t)
  for (const path of [socketPath, apiSocketPath]) t.is(statSync(path).mode & 0o777, 0o600)
  t.is(statSync(join(dir, 'plugins')).mode & 0o777, 0o755)
})

test('a call without a body is a 400 and does nothing', async (t) => {
  const { call, store } = await startAgent(t)
  for (const name of ['CreateNetwork', 'CreateEndpoint', 'Join', 'Leave', 'DeleteNetwork']) {
    const { status, body } = await call(`NetworkDriver.${name}`)
    t.is(status, 400, name)
    t.regex(String(body?.Err), /came without a body .* try again/)
    t.is(body?.Error, body?.Err)
  }
  t.is(store.list('network').length, 0)
})

test('a body that is no JSON, or the wrong JSON, is a 400 that names the field', async (t) => {
  const { call } = await startAgent(t)
  const create = (body: string) => call('NetworkDriver.CreateNetwork', body)
  for (const body of ['{', 'null', '[]', '"x"', '7', '{}', '\u0000', '{"NetworkID":"../x"}']) {
    const { status, body: answer } = await create(body)
    t.is(status, 400, body)
    t.is(typeof answer?.Err, 'string')
  }
  const { body } = await create('{"NetworkID":7}')
  t.regex(String(body?.Err), /^CreateNetwork: NetworkID: /)
})

test('EndpointOperInfo is answered 200 whatever comes', async (t) => {
  const { call } = await startAgent(t)
  for (const body of [undefined, '{', '{"EndpointID":7}', { NetworkID: 'a', EndpointID: 'b' }])
    t.is((await call('NetworkDriver.EndpointOperInfo', body)).status, 200)
})

test('unknown methods answer 404', async (t) => {
  const { call, socketPath } = await startAgent(t)
  for (const name of ['NetworkDriver.GwAllocCheck', 'toString', '__proto__', 'a/b', '%00', ''])
    t.is((await call(name, '{}')).status, 404, name)
  t.is((await send(socketPath, 'GET', '/NetworkDriver.Join')).status, 404)
  t.is((await call('%zz', '{}')).status, 400)
})

test('a body over 1 MiB is refused', async (t) => {
  const { call } = await startAgent(t)
  const { status } = await call('NetworkDriver.CreateNetwork', `"${'x'.repeat(1024 * 1024)}"`)
  t.is(status, 413)
})

test('no connection is kept', async (t) => {
  const { socketPath } = await startAgent(t)
  const text = await sendRaw(socketPath, 'POST /Plugin.Activate HTTP/1.1\r\nHost:\r\n\r\n')
  t.regex(text, /^HTTP\/1\.1 200 OK/)
  t.regex(text, /\r\nConnection: close\r\n/)
  t.regex(text, /application\/vnd\.docker\.plugins\.v1\.1\+json/)
})

test('headers over their bound are refused', async (t) => {
  const { socketPath } = await startAgent(t)
  const long = 'x'.repeat(limits.headerSizeMax + 1)
  const text = await sendRaw(socketPath, `POST /Plugin.Activate HTTP/1.1\r\nX: ${long}\r\n\r\n`)
  t.regex(text, /^HTTP\/1\.1 431 /)
})

test('a client that sends its headers drop by drop is let go', async (t) => {
  const { socketPath } = await startAgent(t)
  const started = performance.now()
  const text = await sendRaw(socketPath, 'POST /Plugin.Activate HTTP/1.1\r\nX: y')
  t.regex(text, /^HTTP\/1\.1 408 /)
  t.true(performance.now() - started < limits.headersMs + 3 * limits.checkMs)
})

test('calls wait for the store', async (t) => {
  let open: (store: Store) => void = () => {}
  const store = new Promise<Store>((resolve) => {
    open = resolve
  })
  const agent = await startAgent(t, { store })
  t.is((await agent.call('Plugin.Activate')).status, 200)
  t.is((await agent.call('NetworkDriver.GetCapabilities')).status, 200)
  const waiting = agent.call('NetworkDriver.CreateNetwork', network)
  open(agent.store)
  t.deepEqual((await waiting).body, {})
})

test('a store that does not open is told in bounded time', async (t) => {
  const store = new Promise<Store>(() => {})
  const { call } = await startAgent(t, { store, limits: { readyMs: 50 } })
  const { status, body } = await call('NetworkDriver.CreateNetwork', network)
  t.is(status, 200)
  t.regex(String(body?.Err), /midonet is starting/)
})

test('a store that cannot be opened tells why', async (t) => {
  const store = Promise.reject(new SocketError('FAILED', 'the store is locked by pid 7'))
  const { call } = await startAgent(t, { store })
  const { body } = await call('NetworkDriver.CreateNetwork', network)
  t.is(body?.Err, 'the store is locked by pid 7')
})

test('a call that hangs is answered in bounded time, and the next one works', async (t) => {
  const settled = () => new Promise<void>(() => {})
  const { call } = await startAgent(t, { settled, limits: { answerMs: 100 } })
  await call('NetworkDriver.CreateNetwork', network)
  const ids = { NetworkID: dockerId(1), EndpointID: dockerId(2) }
  const Interface = { Address: '10.1.0.2/24', AddressIPv6: '', MacAddress: '' }
  await call('NetworkDriver.CreateEndpoint', { ...ids, Interface, Options: {} })
  const { body } = await call('NetworkDriver.Join', ids)
  t.regex(String(body?.Err), /NetworkDriver\.Join took longer than 0\.1 s/)
  t.is((await call('NetworkDriver.EndpointOperInfo', ids)).status, 200)
})

test('more calls at once than the bound are refused, not queued', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-driver-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  let release: (answer: object) => void = () => {}
  const released = new Promise<object>((resolve) => {
    release = resolve
  })
  const ready = Promise.resolve(await contextOf(t))
  const calls = { plain: {}, calls: { X: () => released }, lenient: {} }
  const path = join(dir, 's.sock')
  const server = await listenOnSocket(path, createPluginApp(calls, ready, { callsMax: 4 }))
  t.teardown(() => server.close())
  const refused: unknown[] = []
  const answers = Array.from({ length: 10 }, async () => {
    const { body } = await post(path, '/X', '{}')
    if (body?.Err !== undefined) refused.push(body.Err)
    if (refused.length === 6) release({})
    return body
  })
  const done = (await Promise.all(answers)).filter((body) => body?.Err === undefined)
  t.is(done.length, 4)
  t.regex(String(refused[0]), /too many calls at once; try again/)
})

test('a stale socket is replaced, a live one and a file are left alone', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-driver-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const handler = createPluginApp(
    { plain: { A: () => ({}) }, calls: {}, lenient: {} },
    new Promise<DriverContext>(() => {}),
  )
  const path = join(dir, 'midonet.sock')
  writeFileSync(path, 'x')
  await t.throwsAsync(listenOnSocket(path, handler), {
    instanceOf: SocketError,
    code: 'NOT_A_SOCKET',
  })
  rmSync(path)

  // A listener that ends without removing its file, as a killed agent does.
  const killed = createServer().listen(join(dir, 'other'))
  await new Promise((resolve) => killed.once('listening', resolve))
  renameSync(join(dir, 'other'), path)
  await new Promise((resolve) => killed.close(resolve))
  t.true(lstatSync(path).isSocket())
  const server = await listenOnSocket(path, handler)
  t.is((await post(path, '/A')).status, 200)

  const second = listenOnSocket(path, handler)
  await t.throwsAsync(second, {
    code: 'IN_USE',
    message: /another agent listens at .*; stop it first/,
  })
  t.is((await post(path, '/A')).status, 200)
  await server.close()
  t.false(existsSync(path))
})

test('a socket file that vanishes is made again', async (t) => {
  const { socketPath, call, driver } = await startAgent(t)
  rmSync(join(socketPath, '..'), { recursive: true })
  const end = performance.now() + 5_000
  while (!existsSync(socketPath) && performance.now() < end)
    await new Promise((resolve) => setTimeout(resolve, 50))
  t.is((await call('Plugin.Activate')).status, 200)
  t.is(statSync(socketPath).mode & 0o777, 0o600)
  t.regex(driver.reconciler.repairs[0]?.what ?? '', /had vanished/)
})
