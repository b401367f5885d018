/**
 * Docker Engines of other releases, and Docker Compose: part of the long run, since their packages are
 * fetched. Each engine passes the same tests as this release's.
 */
import { spawnSync } from 'node:child_process'
import test, { type ExecutionContext } from 'ava'
import { Engine, hostAddress, image } from './engine.ts'
import { engineRoot } from './engine-root.ts'

const isLong = process.env.MIDONET_LONG === '1'
const onlyLong = isLong ? test.serial : test.serial.skip
const checkout = new URL('../../../', import.meta.url).pathname

for (const suite of ['trixie', 'sid']) {
  const passes = (t: ExecutionContext, name: string, ...options: readonly string[]) => {
    t.timeout(14 * 60_000)
    const file = new URL(name, import.meta.url).pathname
    const ava = ['node_modules/ava/entrypoints/cli.mjs', '--serial', '--timeout=10m']
    const { status, stdout } = spawnSync(process.execPath, [...ava, ...options, file], {
      cwd: checkout,
      env: { ...process.env, MIDONET_ENGINE_ROOT: engineRoot(suite) },
      encoding: 'utf8',
    })
    t.is(status, 0, stdout.slice(-4000))
  }

  onlyLong(`the engine of Debian ${suite} passes the tests of Docker`, (t) =>
    passes(t, 'docker.test.js'),
  )

  onlyLong(`three engines of Debian ${suite}: a Swarm's ports published in mode ingress`, (t) =>
    passes(t, 'swarm-fault.test.js', '--match=published in mode ingress*'),
  )
}

onlyLong('the example of Docker Compose: two networks, groups, a published service', async (t) => {
  t.timeout(10 * 60_000)
  const engine = await Engine.start()
  try {
    const chains = [
      ...['chain create name web', 'ip-address-group create name web'],
      'chain web add rule proto tcp dst-port 80 type accept',
      'chain create name db',
      'chain db add rule ip-address-group-src web proto tcp dst-port 5432 type accept',
    ]
    const made = await engine.midonet('cli', ...chains.flatMap((chain) => ['-e', chain]))
    t.is(made.code, 0, made.stderr)
    const serve = (port: number) => `httpd -f -p ${port} -h /www`
    const variables = [
      ...[`WEB_IMAGE=${image}`, `DB_IMAGE=${image}`],
      ...[`WEB_COMMAND=${serve(80)}`, `DB_COMMAND=${serve(5432)}`],
    ]
    const compose = async (...args: string[]) => {
      const program = `${engineRoot('sid')}/usr/libexec/docker/cli-plugins/docker-compose`
      const file = ['-f', `${checkout}examples/compose.yaml`, '-p', 'shop']
      const { code, stderr } = await engine.run('env', ...variables, program, ...file, ...args)
      t.is(code, 0, stderr)
    }
    await compose('up', '-d')
    const ask = (from: string, address: string) =>
      engine.docker('exec', from, 'timeout', '3', 'wget', '-qO-', `http://${address}`)
    const outside = ['ip', 'netns', 'exec', 'outside']
    t.not((await engine.fetch(hostAddress, 8080, ...outside)).stdout, '', 'published')
    t.regex((await ask('shop-web-1', '10.42.0.10:5432')).stderr, /404/, 'web reaches db')
    const web = await engine.address('shop-web-1', 'shop-front')
    t.regex((await ask('shop-db-1', web)).stderr, /404/, 'db reaches the port that is open')
    t.false(await engine.reaches('shop-web-1', '10.42.0.10'), 'no more than its rule says')
    await engine.sleeper('other', 'shop-front')
    t.notRegex((await ask('other', '10.42.0.10:5432')).stderr, /404/, 'who is not in web')
    await engine.mustDocker('rm', '-f', 'other')
    await compose('down')
    t.deepEqual(await engine.objects('endpoint'), [])
    t.deepEqual(await engine.objects('network'), [])
  } finally {
    await engine.close()
  }
})
