/**
 * The managed plugin on a real Docker Engine, from the folder that `npm run plugin` makes through a
 * registry to containers; disabled, upgraded, and with a Docker that is killed.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Engine, hostAddress, image, outsideAddress } from './engine.ts'
import { ensurePackages } from './packages.ts'
import {
  builtPlugin,
  otherVersion,
  Pings,
  pluginPackages,
  reboot,
  registry,
  startRegistry,
} from './plugin-machine.ts'

const onlyLong = process.env.MIDONET_LONG === '1' ? test.serial : test.serial.skip
/** Not `latest`: then Docker finds the plain name by its socket at any time. */
const name = 'midonet:swarm'
const reference = `${registry}/midonet/midonet`
const all = ['--grant-all-permissions'] as const
/** What Docker starts again when it was killed; it waits for its end first. */
const returning = ['--restart', 'always', '--stop-timeout', '1'] as const

let engine: Engine
let folder: string
let built: string

test.before(async () => {
  ensurePackages(pluginPackages)
  folder = mkdtempSync(join(tmpdir(), 'midonet-plugin-'))
  engine = await Engine.startBare()
  await startRegistry(engine)
})

test.after.always(async (t) => {
  if (!t.passed) t.log(engine?.log())
  await engine?.close()
  rmSync(folder, { recursive: true, force: true })
})

async function plugin(...args: string[]): Promise<string> {
  return engine.mustDocker('plugin', ...args)
}

/** Makes a plugin of a folder, and leaves it in the registry only. */
async function publish(from: string, version: string): Promise<void> {
  await plugin('create', `${reference}:${version}`, from)
  await plugin('push', `${reference}:${version}`)
  await plugin('rm', `${reference}:${version}`)
}

/** What Docker has of networks made by either name. */
async function reachesBoth(): Promise<boolean> {
  const addresses = [await engine.address('plain2', 'plain'), await engine.address('tag2', 'tag')]
  const [plain = '', tag = ''] = addresses
  return (await engine.reaches('plain1', plain)) && (await engine.reaches('tag1', tag))
}

test.serial('what is built is the same every time', (t) => {
  const first = builtPlugin()
  built = first.folder
  t.is(builtPlugin().digest, first.digest)
  t.true(first.archiveSize < 125e6, `${first.archiveSize} bytes`)
})

test.serial('a plugin from a registry asks for what it needs, and is enabled', async (t) => {
  await publish(built, '1')
  const refused = await engine.docker('plugin', 'install', `${reference}:1`)
  const asked = refused.stdout + refused.stderr
  for (const what of ['network: [host]', 'mount: [/run]', 'mount: [/proc/sys/net]'])
    t.true(asked.includes(what), asked)
  t.regex(asked, /capabilities: \[CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN\]/)
  await plugin('install', ...all, '--alias', name, `${reference}:1`, 'MIDONET_SCOPE=local')
  t.is(await plugin('inspect', '-f', '{{.Enabled}}', name), 'true')
  await plugin('disable', name)
  await plugin('set', name, 'DEBUG=midonet:main,midonet:driver')
  await plugin('enable', name)
})

test.serial('containers talk on networks of its own name and of the plain one', async (t) => {
  for (const [network, driver, subnet] of [
    ['plain', 'midonet', '10.1.0.0/24'],
    ['tag', name, '10.2.0.0/24'],
  ] as const) {
    await engine.mustDocker('network', 'create', '--driver', driver, '--subnet', subnet, network)
    for (const number of ['1', '2'])
      await engine.sleeper(`${network}${number}`, network, ...returning)
  }
  t.true(await reachesBoth())
  t.true(await engine.reaches('plain1', outsideAddress))
  const cleaned = await engine.midonet('agent', '--clean')
  t.regex(cleaned.stderr, /an agent runs .* docker plugin disable/)
  await engine.mustDocker(
    ...['run', '-d', '--name', 'web', '--network', 'plain', '--publish', '8080:80', image],
    ...['sh', '-c', 'echo web >/www/index.html; httpd -f -p 80 -h /www'],
  )
  let heard = ''
  for (let tries = 0; tries < 20 && heard !== 'web'; tries++) {
    heard = (await engine.fetch(hostAddress, 8080, 'ip', 'netns', 'exec', 'outside')).stdout.trim()
    await sleep(100)
  }
  t.is(heard, 'web')
  await engine.mustDocker('rm', '-f', 'web')
})

test.serial('while it is disabled traffic goes on, and after it all is as before', async (t) => {
  const refused = await engine.docker('plugin', 'disable', name)
  t.regex(refused.stderr, /in use/)
  const before = await engine.address('plain2', 'plain')
  const pings = new Pings(engine, 'plain1', before)
  await sleep(1_000)
  await plugin('disable', '--force', name)
  await sleep(2_000)
  t.true(await reachesBoth(), 'no agent runs')
  await plugin('enable', name)
  await sleep(1_000)
  const { sent, lost } = await pings.end()
  t.log(`${lost} of ${sent} pings lost`)
  t.true(sent > 30)
  t.is(lost, 0)
  t.is(await engine.address('plain2', 'plain'), before)
  await engine.sleeper('plain3', 'plain')
  t.true(await engine.reaches('plain3', before))
  await engine.mustDocker('rm', '-f', 'plain3')
})

test.serial('it is upgraded while containers talk', async (t) => {
  await publish(otherVersion(built, join(folder, 'next'), '0.99.0'), '2')
  const pings = new Pings(engine, 'plain1', await engine.address('plain2', 'plain'))
  await sleep(500)
  await plugin('disable', '--force', name)
  await plugin('upgrade', '--skip-remote-check', ...all, name, `${reference}:2`)
  await plugin('enable', name)
  await sleep(1_000)
  const { sent, lost } = await pings.end()
  t.log(`${lost} of ${sent} pings lost`)
  t.is(lost, 0)
  const { version } = (await engine.status()) as { version?: string }
  t.is(version, '0.99.0')
  t.true(await reachesBoth())
})

test.serial(
  'Docker killed and started again finds the plugin, and containers return',
  async (t) => {
    const waits = engine.waitsForPlugins
    await engine.stopDocker('KILL')
    await engine.startDocker()
    // It waits 15 s for a plugin that waits for it.
    t.is(engine.waitsForPlugins, waits)
    t.is(await plugin('inspect', '-f', '{{.Enabled}}', name), 'true')
    const running = async () => (await engine.mustDocker('ps', '-q')).split('\n').length
    for (let tries = 0; tries < 300 && (await running()) < 4; tries++) await sleep(100)
    t.is(await running(), 4)
    t.true(await reachesBoth())
  },
)

onlyLong('plugin deadlock at daemon start: none when the machine was switched off', async (t) => {
  for (let round = 0; round < 2; round++) {
    const waits = engine.waitsForPlugins
    const took = await reboot(engine)
    t.log(`Docker answered after ${Math.round(took)} ms`)
    // It waits 15 s for a plugin that waits for it.
    t.is(engine.waitsForPlugins, waits)
    t.is(await plugin('inspect', '-f', '{{.Enabled}}', name), 'true')
    const running = async () => (await engine.mustDocker('ps', '-q')).split('\n').length
    for (let tries = 0; tries < 300 && (await running()) < 4; tries++) await sleep(100)
    t.true(await reachesBoth())
    t.true(await engine.reaches('plain1', outsideAddress))
  }
})

test.serial('nothing is left when all is removed', async (t) => {
  await engine.mustDocker('rm', '-f', 'plain1', 'plain2', 'tag1', 'tag2')
  await engine.mustDocker('network', 'rm', 'plain', 'tag')
  const rest = async () => Object.entries(await engine.leftovers()).filter(([, count]) => count > 0)
  for (let tries = 0; tries < 100 && (await rest()).length > 0; tries++) await sleep(100)
  t.deepEqual(await rest(), [])
  await plugin('disable', name)
  await plugin('rm', name)
  t.is(await plugin('ls', '-q'), '')
})
