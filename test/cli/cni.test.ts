/** The program `midonet-cni` beside a runtime: its table of errors, its forms, and nonsense. */
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { runCni } from '../../cli/cni/command.ts'
import { readResult, versions, writeResult } from '../../cli/cni/result.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const config = { cniVersion: '1.1.0', name: 'blue', type: 'midonet-cni' }
const result = {
  interfaces: [
    { name: 'mn1', mac: '02:00:00:00:00:01', mtu: 1500 },
    { name: 'eth0', mtu: 1500 },
  ],
  ips: [
    { interface: 1, address: '10.9.0.2/24', gateway: '10.9.0.1' },
    { interface: 1, address: 'fd00::2/64' },
  ],
  routes: [
    { dst: '0.0.0.0/0', gw: '10.9.0.1', mtu: 1400 },
    { dst: '::/0', gw: 'fd00::1' },
  ],
}
const container = { CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0', CNI_NETNS: '/proc/self/ns/net' }

interface Done {
  readonly status: number
  readonly out: Record<string, unknown>
}

async function call(command: string, input: object | string, env: object = {}): Promise<Done> {
  let out = ''
  const output = new Writable({
    write(part, _, done) {
      out += part
      done()
    },
  })
  async function* source() {
    yield typeof input === 'string' ? input : JSON.stringify(input)
  }
  const own = { CNI_COMMAND: command, ...container, ...env }
  const status = await runCni(own, source(), output)
  return { status, out: out === '' ? {} : JSON.parse(out) }
}

interface FakeAgent {
  readonly env: { readonly MIDONET_RUN_DIR: string }
  readonly dir: string
  readonly heard: Record<string, unknown>[]
}

/** An agent that answers everything with `answer`. */
async function agent(t: ExecutionContext, answer: object): Promise<FakeAgent> {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-cni-'))
  const heard: Record<string, unknown>[] = []
  const server = createServer(async (incoming, response) => {
    heard.push(JSON.parse(await text(incoming)))
    response.end(JSON.stringify(answer))
  })
  await new Promise<void>((resolve) => server.listen(join(dir, 'agent.sock'), resolve))
  t.teardown(() => {
    server.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return { env: { MIDONET_RUN_DIR: dir }, dir, heard }
}

/** An IPAM plugin that is a script; its lines have the command in $CNI_COMMAND. */
function plugin(dir: string, name: string, script: string): void {
  writeFileSync(join(dir, name), `#!/bin/sh\nin=$(cat)\n${script}\n`)
  chmodSync(join(dir, name), 0o755)
}

const none = { MIDONET_RUN_DIR: '/nonexistent' }

for (const [what, command, input, env, code] of [
  ['a version that nobody knows', 'ADD', { ...config, cniVersion: '9.0.0' }, {}, 1],
  ['a version that is no text', 'ADD', { ...config, cniVersion: 1 }, {}, 1],
  ['CHECK of a version without', 'CHECK', { ...config, cniVersion: '0.3.1' }, {}, 1],
  ['GC of a version without', 'GC', { ...config, cniVersion: '1.0.0' }, {}, 1],
  ['STATUS of a version without', 'STATUS', { ...config, cniVersion: '0.4.0' }, {}, 1],
  ['a namespace that is not there', 'ADD', config, { CNI_NETNS: '/nonexistent' }, 3],
  ['no command', '', config, {}, 4],
  ['an unknown command', 'add', config, {}, 4],
  ['no container', 'ADD', config, { CNI_CONTAINERID: '' }, 4],
  ['a container id that is none', 'DEL', config, { CNI_CONTAINERID: '../x' }, 4],
  ['an interface name that is none', 'ADD', config, { CNI_IFNAME: 'a/b' }, 4],
  ['an interface name too long', 'ADD', config, { CNI_IFNAME: 'a'.repeat(16) }, 4],
  ['no namespace', 'ADD', config, { CNI_NETNS: '' }, 4],
  ['a configuration without end', 'ADD', 'x'.repeat(5 * 1024 * 1024), {}, 5],
  ['a configuration that is not JSON', 'ADD', '{', {}, 6],
  ['a configuration that is no object', 'ADD', '[1]', {}, 6],
  ['no configuration', 'DEL', '', {}, 6],
  ['no name', 'ADD', { cniVersion: '1.1.0' }, {}, 7],
  ['a name that is none', 'ADD', { ...config, name: '-x' }, {}, 7],
  ['CHECK without a result', 'CHECK', config, {}, 7],
  ['GC without a list', 'GC', config, {}, 7],
  ['an IPAM plugin by its path', 'ADD', { ...config, ipam: { type: '../bin/sh' } }, {}, 7],
  [
    'an IPAM plugin that is not there',
    'ADD',
    { ...config, ipam: { type: 'x' } },
    { CNI_PATH: '/' },
    7,
  ],
  ['an IPAM plugin without a path', 'ADD', { ...config, ipam: { type: 'x' } }, {}, 4],
  ['no agent', 'ADD', config, {}, 11],
  ['no agent for STATUS', 'STATUS', config, {}, 50],
] as const)
  test(`error ${code}: ${what}`, async (t) => {
    const { status, out } = await call(command, input, { ...none, ...env })
    t.is(status, 1)
    t.is(out.code, code, String(out.msg))
    t.is(typeof out.msg, 'string')
    t.true(versions.some((version) => version === out.cniVersion))
  })

test('errors of the environment name the variables', async (t) => {
  const { out } = await call('ADD', config, { CNI_IFNAME: '', CNI_NETNS: '' })
  t.regex(String(out.msg), /^CNI_NETNS, CNI_IFNAME are not set/)
})

test('VERSION tells all versions, with a configuration and without', async (t) => {
  t.deepEqual((await call('VERSION', '')).out.supportedVersions, [...versions])
  t.is((await call('VERSION', { cniVersion: '0.4.0' })).out.cniVersion, '0.4.0')
})

test('a result is written in the form of each version and read again', (t) => {
  const four = {
    ip: '10.9.0.2/24',
    gateway: '10.9.0.1',
    routes: [{ dst: '0.0.0.0/0', gw: '10.9.0.1' }],
  }
  const old = writeResult(result, '0.2.0')
  t.deepEqual(old, {
    ...{ cniVersion: '0.2.0', dns: {}, ip4: four },
    ip6: { ip: 'fd00::2/64', routes: [{ dst: '::/0', gw: 'fd00::1' }] },
  })
  t.like(readResult(old), { ips: [{ address: '10.9.0.2/24' }, { address: 'fd00::2/64' }] })
  t.like(writeResult(result, '0.3.1'), { ips: [{ version: '4' }, { version: '6' }] })
  t.deepEqual(Object(writeResult(result, '1.0.0')).routes[0], { dst: '0.0.0.0/0', gw: '10.9.0.1' })
  for (const version of versions.slice(2)) {
    const again = readResult(writeResult(result, version))
    t.deepEqual(again?.ips, result.ips)
    t.is(again?.routes.length, 2)
  }
  t.deepEqual(readResult(writeResult(result, '1.1.0')), { ...result, dns: {} })
})

test('the agent hears what the runtime says, and its refusal is told', async (t) => {
  const { env, heard } = await agent(t, { result })
  const dns = { nameservers: ['10.9.0.1'] }
  const { status, out } = await call('ADD', { ...config, dns }, { ...env, CNI_ARGS: 'IP=10.9.0.2' })
  t.is(status, 0)
  t.like(out, { cniVersion: '1.1.0', dns, interfaces: result.interfaces })
  t.like(heard[0], { command: 'ADD', network: 'blue', container: 'c1', args: 'IP=10.9.0.2' })
  t.like(heard[0]?.netns, { path: '/proc/self/ns/net', pid: process.pid })
  const refusing = await agent(t, { error: { code: 101, msg: 'it is there' } })
  const refused = await call('ADD', config, refusing.env)
  t.deepEqual(refused, { status: 1, out: { cniVersion: '1.1.0', code: 101, msg: 'it is there' } })
})

test('DEL needs no namespace', async (t) => {
  const { env, heard } = await agent(t, {})
  const done = await call('DEL', config, { ...env, CNI_NETNS: '' })
  t.deepEqual(done, { status: 0, out: {} })
  t.false('netns' in (heard[0] ?? {}))
})

test('an IPAM plugin gives addresses, and takes them back when the agent refuses', async (t) => {
  const refusing = await agent(t, { error: { code: 103, msg: 'taken' } })
  const { dir } = refusing
  const given = '{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/24","gateway":"10.1.0.1"}}'
  plugin(dir, 'pool', `echo $CNI_COMMAND $CNI_CONTAINERID >>${dir}/log; echo '${given}'`)
  const own = { ...refusing.env, CNI_PATH: `/nonexistent:${dir}` }
  const { out } = await call('ADD', { ...config, ipam: { type: 'pool' } }, own)
  t.is(out.code, 103)
  t.like(refusing.heard[0]?.ipam, { ips: [{ address: '10.1.0.5/24', gateway: '10.1.0.1' }] })
  const { readFileSync } = await import('node:fs')
  t.deepEqual(readFileSync(`${dir}/log`, 'utf8').trim().split('\n'), ['ADD c1', 'DEL c1'])
})

test('an older IPAM plugin is asked in its own version; one that fails is quoted', async (t) => {
  const { env, dir, heard } = await agent(t, { result })
  const own = { ...env, CNI_PATH: dir }
  plugin(
    dir,
    'old',
    `case "$CNI_COMMAND$in" in
VERSION*) echo '{"supportedVersions":["0.3.1","0.4.0"]}';;
*0.4.0*) echo '{"ips":[{"version":"4","address":"10.1.0.6/24"}]}';;
*) echo '{"code":1,"msg":"too new"}'; exit 1;; esac`,
  )
  t.is((await call('ADD', { ...config, ipam: { type: 'old' } }, own)).status, 0)
  t.like(heard[0]?.ipam, { ips: [{ address: '10.1.0.6/24' }] })
  plugin(dir, 'full', `echo '{"code":104,"msg":"no address","details":"all taken"}'; exit 1`)
  const { out } = await call('ADD', { ...config, ipam: { type: 'full' } }, own)
  t.like(out, { code: 104, msg: 'IPAM plugin full: no address: all taken' })
  plugin(dir, 'dead', 'kill -9 $$')
  t.is((await call('ADD', { ...config, ipam: { type: 'dead' } }, own)).out.code, 11)
  plugin(dir, 'empty', 'echo {}')
  t.is((await call('ADD', { ...config, ipam: { type: 'empty' } }, own)).out.code, 7)
})

test('GC tells an IPAM plugin that does not know it of each that is gone', async (t) => {
  const removed = [{ container: 'c9', ifname: 'eth1', netns: '/run/netns/x' }]
  const { env, dir } = await agent(t, { removed })
  plugin(
    dir,
    'pool',
    `echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME >>${dir}/log
[ $CNI_COMMAND = DEL ] || { echo '{"code":4,"msg":"unknown"}'; exit 1; }`,
  )
  const own = { ...env, CNI_PATH: dir }
  const values = { ...config, ipam: { type: 'pool' }, 'cni.dev/valid-attachments': [] }
  t.is((await call('GC', values, own)).status, 0)
  const { readFileSync } = await import('node:fs')
  t.regex(readFileSync(`${dir}/log`, 'utf8'), /GC[^\n]*\nDEL c9 eth1\n/)
})

test(`whatever comes, the answer is one object with a code (seed ${seed})`, async (t) => {
  const names = fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION', '')
  const keys = fc.constantFrom('cniVersion', 'name', 'ipam', 'prevResult', 'dns', 'x')
  const values = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom('1.1.0', 'blue'))
  const objects = fc
    .array(fc.tuple(keys, values))
    .map((entries) => JSON.stringify({ ...config, ...Object.fromEntries(entries) }))
  const inputs = fc.oneof(fc.string(), objects, fc.json())
  const variables = fc.record({ CNI_CONTAINERID: fc.string(), CNI_IFNAME: fc.string() })
  const known = [1, 3, 4, 5, 6, 7, 11, 50]
  await fc.assert(
    fc.asyncProperty(names, inputs, variables, async (command, input, env) => {
      const { status, out } = await call(command, input, { ...none, ...env })
      const isRight = status === 0 ? 'supportedVersions' in out : known.includes(Number(out.code))
      t.true(isRight, JSON.stringify(out))
    }),
    { seed, numRuns: 500 },
  )
})

test('the program answers within a moment', async (t) => {
  const program = new URL('../../cli/cni.js', import.meta.url).pathname
  const child = spawn(process.execPath, [program], { env: { CNI_COMMAND: 'VERSION' } })
  child.stdin.end('{"cniVersion":"1.1.0"}')
  t.like(JSON.parse(await text(child.stdout)), { cniVersion: '1.1.0' })
})
