/** The API over TCP: TLS only, and only what a token may. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { createApi } from '../../driver/api.ts'
import { DriverError } from '../../driver/error.ts'
import { listenOnTls, type TlsServer } from '../../driver/rest/tls.ts'
import { readTokens, rightOf } from '../../driver/rest/token.ts'
import { openMemoryStore } from '../../topology/memory.ts'

const readToken = 'r'.repeat(32)
const writeToken = 'w'.repeat(32)

function folder(t: ExecutionContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-tls-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

function writeTokenFile(dir: string, text: string, mode = 0o600): string {
  const file = join(dir, 'tokens')
  writeFileSync(file, text)
  chmodSync(file, mode)
  return file
}

async function serve(t: ExecutionContext): Promise<TlsServer & { readonly tokens: string }> {
  const dir = folder(t)
  const [key, certificate] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=localhost'],
    ...['-keyout', key, '-out', certificate],
  ])
  t.is(made.status, 0)
  const tokens = writeTokenFile(dir, `read ${readToken}\n# of the operators\nwrite ${writeToken}\n`)
  const store = await openMemoryStore()
  const api = createApi({
    store: Promise.resolve(store),
    status: async () => ({ ready: true }),
    trace: async () => ({}),
  })
  const server = await listenOnTls({ listen: '127.0.0.1:0', certificate, key, tokens }, api)
  t.teardown(async () => {
    await server.close()
    await store.close()
  })
  return Object.assign(server, { tokens })
}

function ask(port: number, method: string, path: string, token?: string, body?: object) {
  return new Promise<number>((resolve, reject) => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const options = { port, host: '127.0.0.1', method, path, headers, agent: false }
    const outgoing = request({ ...options, rejectUnauthorized: false }, (incoming) => {
      incoming.resume()
      incoming.on('end', () => resolve(incoming.statusCode ?? 0))
    })
    outgoing.on('error', reject)
    outgoing.end(body && JSON.stringify(body))
  })
}

test('a token is needed; one may read, another also write', async (t) => {
  const { port, tokens, reload } = await serve(t)
  const router = { adminUp: true }
  t.is(await ask(port, 'GET', '/v1/router'), 401)
  t.is(await ask(port, 'GET', '/status', 'x'.repeat(32)), 401)
  t.is(await ask(port, 'GET', '/v1/router', readToken), 200)
  t.is(await ask(port, 'POST', '/v1/router', readToken, router), 403)
  t.is(await ask(port, 'POST', '/dpctl', readToken, { command: 'show', words: [] }), 403)
  t.is(await ask(port, 'POST', '/v1/router', writeToken, router), 201)
  writeFileSync(tokens, `write ${'n'.repeat(32)}\n`)
  reload()
  t.is(await ask(port, 'GET', '/v1/router', writeToken), 401)
  t.is(await ask(port, 'GET', '/v1/router', 'n'.repeat(32)), 200)
  writeFileSync(tokens, 'nonsense\n')
  t.throws(reload, { instanceOf: DriverError })
  t.is(await ask(port, 'GET', '/v1/router', 'n'.repeat(32)), 200)
})

test('without TLS there is no answer', async (t) => {
  const { port } = await serve(t)
  const seen = await new Promise<string>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('GET /status HTTP/1.1\r\n\r\n'))
    let text = ''
    socket.on('data', (part) => {
      text += part.toString('latin1')
    })
    socket.on('error', () => resolve(text))
    socket.on('close', () => resolve(text))
  })
  t.notRegex(seen, /200/)
})

test('tokens that others could read, and lines that are none, are refused without showing them', (t) => {
  const dir = folder(t)
  for (const [text, mode] of [
    [`write ${writeToken}\n`, 0o644],
    [`write ${writeToken} extra\n`, 0o600],
    [`admin ${writeToken}\n`, 0o600],
    ['write short\n', 0o600],
    ['\n', 0o600],
  ] as const) {
    const error = t.throws(() => readTokens(writeTokenFile(dir, text, mode)), {
      instanceOf: DriverError,
    })
    t.notRegex(error?.message ?? '', /www|short/)
  }
  const missing = t.throws(() => readTokens(join(dir, 'none')), { instanceOf: DriverError })
  t.regex(missing?.message ?? '', /no such file.*chmod 600/)
  const tokens = readTokens(writeTokenFile(dir, `read ${readToken}\nwrite ${writeToken}\n`))
  t.is(readFileSync(join(dir, 'tokens'), 'utf8').length, 77)
  t.is(rightOf(tokens, `Bearer ${writeToken}`), 'write')
  t.is(rightOf(tokens, `bearer  ${readToken} `), 'read')
  for (const header of [undefined, '', writeToken, `Basic ${writeToken}`, 'Bearer ', 'Bearer é'])
    t.is(rightOf(tokens, header), undefined)
})
