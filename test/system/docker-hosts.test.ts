/** Two Docker Engines that share a store: the same networks on both, containers on either. */
import test from 'ava'
import { Engine, image } from './engine.ts'
import type { EtcdCluster } from './etcd-cluster.ts'
import { eventually, joinUnderlay, startStore, stopStore } from './hosts.ts'
import { ensurePackages } from './packages.ts'

let etcd: EtcdCluster
let engines: readonly Engine[] = []

function engine(index: number): Engine {
  const found = engines[index]
  if (found === undefined) throw new RangeError(`no engine ${index}`)
  return found
}

test.before(async (t) => {
  t.timeout(240_000)
  ensurePackages()
  etcd = await startStore()
  const settings = { MIDONET_STORE: etcd.url, MIDONET_UNDERLAY: '192.168.77.0/24' }
  engines = await Promise.all(
    [0, 1].map((index) =>
      Engine.start([], settings, ({ pid }) => joinUnderlay(String(pid), index)),
    ),
  )
  for (const one of engines) {
    await network(one, 'shop', '10.7.0.0/24')
    await network(one, 'back', '10.8.0.0/24')
  }
  for (const [index, one] of engines.entries())
    for (const on of ['shop', 'back']) await one.sleeper(`${on}${index}`, on)
})

test.after.always(async () => {
  await Promise.all(engines.map((one) => one.close()))
  await stopStore(etcd)
})

test.afterEach.always('what the agents said', (t) => {
  if (!t.passed) for (const one of engines) t.log(one.log('node'))
})

function network(on: Engine, name: string, subnet: string): Promise<string> {
  const ipam = ['--ipam-driver', 'midonet', '--subnet', subnet]
  const options = ['-o', `org.midonet.bridge=${name}`, '-o', 'org.midonet.router=shared']
  return on.mustDocker('network', 'create', '--driver', 'midonet', ...ipam, ...options, name)
}

const addressOn = (index: number, on: string) => engine(index).address(`${on}${index}`, on)

test.serial('no address is given twice, and the MTU leaves room for the tunnel', async (t) => {
  const all = await Promise.all(
    [0, 1].flatMap((index) => ['shop', 'back'].map((on) => addressOn(index, on))),
  )
  t.is(new Set(all).size, 4, all.join(' '))
  const shown = await engine(0).mustDocker('exec', 'shop0', 'ip', 'link', 'show', 'eth0')
  t.regex(shown, /mtu 1450/)
})

test.serial('containers of one network reach each other over engines', async (t) => {
  t.timeout(60_000)
  const [one, two] = [await addressOn(0, 'shop'), await addressOn(1, 'shop')]
  t.true(await eventually(() => engine(0).reaches('shop0', two)))
  t.true(await eventually(() => engine(1).reaches('shop1', one)))
})

test.serial('and so do those of two networks on one router', async (t) => {
  t.timeout(60_000)
  const [one, two] = [await addressOn(0, 'shop'), await addressOn(1, 'back')]
  t.true(await eventually(() => engine(0).reaches('shop0', two)))
  t.true(await eventually(() => engine(1).reaches('back1', one)))
})

test.serial('a web server is asked from the other engine', async (t) => {
  t.timeout(60_000)
  const script = 'head -c 2000000 /dev/zero >/www/big; exec httpd -f -p 80 -h /www'
  const run = ['run', '-d', '--name', 'web', '--network', 'shop', image, 'sh', '-c', script]
  await engine(1).mustDocker(...run)
  const address = await engine(1).address('web', 'shop')
  for (const from of ['shop0', 'back0']) {
    const fetch = `timeout 10 wget -qO- http://${address}/big | wc -c`
    const asked = async () => {
      const { stdout, stderr } = await engine(0).docker('exec', from, 'sh', '-c', fetch)
      t.log(from, stdout.trim(), stderr.trim())
      return stdout.trim() === '2000000'
    }
    t.true(await eventually(asked), from)
  }
})

test.serial('each engine has a way out of its own', async (t) => {
  t.timeout(60_000)
  for (const index of [0, 1])
    t.true(await eventually(() => engine(index).reaches(`shop${index}`, '192.0.2.2')))
})

test.serial('hosts are listed', async (t) => {
  const { stdout } = await engine(0).midonet('host', 'list')
  t.is([...stdout.matchAll(/alive .* default 192\.168\.77\.\d/g)].length, 2, stdout)
})

test.serial('what one engine removes stays with the other', async (t) => {
  t.timeout(60_000)
  await engine(1).mustDocker('rm', '-f', 'shop1', 'back1', 'web')
  await engine(1).mustDocker('network', 'rm', 'shop', 'back')
  t.true(await engine(0).reaches('shop0', await addressOn(0, 'back')))
})
