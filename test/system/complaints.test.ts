/**
 * What users of other network drivers complain of most, each as a test by its name: two Docker Engines
 * that share a store, on an underlay of 1400 bytes. Part of the long run.
 */
import { text } from 'node:stream/consumers'
import test from 'ava'
import { Engine, image } from './engine.ts'
import type { EtcdCluster } from './etcd-cluster.ts'
import { eventually, joinUnderlay, startStore, stopStore } from './hosts.ts'
import { ensurePackages } from './packages.ts'

const onlyLong = process.env.MIDONET_LONG === '1' ? test.serial : test.serial.skip
const underlayMtu = 1400

let etcd: EtcdCluster
let engines: readonly Engine[] = []

function engine(index: number): Engine {
  const found = engines[index]
  if (found === undefined) throw new RangeError(`no engine ${index}`)
  return found
}

test.before(async (t) => {
  t.timeout(240_000)
  if (process.env.MIDONET_LONG !== '1') return
  ensurePackages()
  etcd = await startStore(underlayMtu)
  const settings = { MIDONET_STORE: etcd.url, MIDONET_UNDERLAY: '192.168.77.0/24' }
  engines = await Promise.all(
    [0, 1].map((index) =>
      Engine.start([], settings, ({ pid }) => joinUnderlay(String(pid), index, underlayMtu)),
    ),
  )
  for (const one of engines) {
    await network(one, 'shop', '10.7.0.0/24')
    await network(one, 'back', '10.8.0.0/24')
  }
  await engine(0).sleeper('shop0', 'shop')
  await engine(1).sleeper('shop1', 'shop')
})

test.after.always(async () => {
  await Promise.all(engines.map((one) => one.close()))
  if (etcd !== undefined) await stopStore(etcd)
})

test.afterEach.always('what the agents said', (t) => {
  if (!t.passed) for (const one of engines) t.log(one.log('node'))
})

function network(on: Engine, name: string, subnet: string, ...more: string[]): Promise<string> {
  const ipam = ['--ipam-driver', 'midonet', '--subnet', subnet]
  const options = ['-o', `org.midonet.bridge=${name}`, '-o', 'org.midonet.router=shared']
  return on.mustDocker(
    'network',
    'create',
    '--driver',
    'midonet',
    ...ipam,
    ...options,
    ...more,
    name,
  )
}

function server(index: number, name: string, script: string): Promise<string> {
  const on = name.replace(/\d$/, '')
  return engine(index).mustDocker(
    'run',
    '-d',
    '--name',
    name,
    '--network',
    on,
    image,
    'sh',
    '-c',
    script,
  )
}

/** Runs a script in a container for as long as it takes. */
async function inside(index: number, container: string, script: string): Promise<string> {
  const child = engine(index).spawn('/usr/bin/docker', 'exec', container, 'sh', '-c', script)
  child.stderr?.resume()
  return child.stdout === null ? '' : text(child.stdout)
}

onlyLong('has active endpoints: none after Docker, agent and containers were killed', async (t) => {
  const one = engine(0)
  await network(one, 'crash', '10.11.0.0/24')
  const create = ['create', '--network', 'crash', '--ip', '10.11.0.9', '--name', 'crash0']
  for (let round = 0; round < 2; round++) {
    await one.mustDocker(...create, image, 'sleep', '100000')
    await one.mustDocker('start', 'crash0')
    const pid = await one.mustDocker('inspect', '-f', '{{.State.Pid}}', 'crash0')
    await Promise.all([one.stopDocker('KILL'), one.stopAgent('KILL')])
    await one.run('kill', '-9', pid)
    await Promise.all([one.startAgent(), one.startDocker()])
    // Neither "endpoint with name crash0 already exists" nor an address that is in use.
    await one.mustDocker('start', 'crash0')
    await one.mustDocker('rm', '-f', 'crash0')
  }
  await one.mustDocker('network', 'rm', 'crash')
  const rest = () => one.objects('network').then((all) => all.filter(isOf('10.11.0.0/24')))
  t.true(await eventually(async () => (await rest()).length === 0))
  // Nobody starts it again.
  await one.mustDocker('start', 'shop0')
})

const isOf = (subnet: string) => (one: Record<string, unknown>) =>
  JSON.stringify(one).includes(subnet)

onlyLong(
  'duplicate address: none over two hosts, while daemons and agents are killed',
  async (t) => {
    t.timeout(240_000)
    const start = (index: number, from: number) =>
      Promise.all(
        Array.from({ length: 8 }, (_, at) => engine(index).sleeper(`many${from + at}`, 'back')),
      )
    await Promise.all([start(0, 0), start(1, 100)])
    await engine(0).stopAgent('KILL')
    await Promise.all([start(1, 200), engine(0).startAgent()])
    await engine(1).stopDocker('KILL')
    await Promise.all([start(0, 300), engine(1).startDocker()])
    await Promise.all([start(0, 400), start(1, 500)])
    await engine(1).mustDocker('start', 'shop1')
    // What containers have, and not only what the store says.
    const format = '{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
    const given: string[] = []
    for (const one of engines) {
      const names = (await one.mustDocker('ps', '-aq', '-f', 'name=many')).split('\n')
      for (const line of (await one.mustDocker('inspect', '-f', format, ...names)).split('\n')) {
        const [pid = '0', address = ''] = line.split(' ')
        if (pid === '0') continue
        const { stdout } = await one.run('nsenter', '-t', pid, '-n', 'ip', '-4', '-o', 'address')
        t.true(stdout.includes(` ${address}/24 `), `${address}: ${stdout}`)
        given.push(address)
      }
    }
    t.true(given.length >= 32, `${given.length} of 48 run`)
    t.is(new Set(given).size, given.length, given.sort().join(' '))
    const endpoints = await engine(0).objects('endpoint')
    const held = endpoints.flatMap(({ address }) => (address === undefined ? [] : [address]))
    t.is(new Set(held).size, held.length)
    for (const one of engines) {
      const names = (await one.mustDocker('ps', '-aq', '-f', 'name=many')).split('\n')
      await one.mustDocker('rm', '-f', ...names)
    }
  },
)

onlyLong(
  'address pools that overlap are refused, and none is chosen that the host uses',
  async (t) => {
    const one = engine(0)
    const refused = await one.docker(
      ...['network', 'create', '--driver', 'midonet', '--subnet', '10.7.0.0/16'],
      ...['-o', 'org.midonet.router=shared', 'wide'],
    )
    t.regex(refused.stderr, /10\.7\.0\.0\/16 overlaps 10\.7\.0\.0\/24 of network/)
    // A VPN, and somebody's link.
    await one.run('ip', 'route', 'add', '172.16.0.0/12', 'via', '192.0.2.2')
    const vpn = ['network', 'create', '--driver', 'midonet', '--subnet', '172.20.0.0/16', 'vpn']
    t.regex((await one.docker(...vpn)).stderr, /overlaps 172\.16\.0\.0\/12 of this host's route/)
    const subnets: string[] = []
    for (const name of ['free1', 'free2']) {
      await one.mustDocker(
        'network',
        'create',
        '--driver',
        'midonet',
        '--ipam-driver',
        'midonet',
        name,
      )
      const format = '{{(index .IPAM.Config 0).Subnet}}'
      subnets.push(await one.mustDocker('network', 'inspect', '-f', format, name))
    }
    t.is(new Set(subnets).size, 2)
    t.false(
      subnets.some((subnet) => /^172\.(1[6-9]|2\d|3[01])\./.test(subnet)),
      subnets.join(),
    )
    await one.mustDocker('network', 'rm', 'free1', 'free2')
    await one.run('ip', 'route', 'del', '172.16.0.0/12')
  },
)

onlyLong(
  'MTU black hole: large transfers pass where links are smaller than senders think',
  async (t) => {
    const script = 'head -c 2000000 /dev/zero >/www/big; exec httpd -f -p 80 -h /www'
    const pull = (at: number, container: string, address: string) =>
      inside(at, container, `timeout 20 wget -qO- http://${address}/big | wc -c`)
    // Over the tunnel: the network's MTU leaves room for it.
    await server(1, 'shop8', script)
    t.regex(await inside(1, 'shop8', 'ip link show eth0'), /mtu 1350/)
    const near = await engine(1).address('shop8', 'shop')
    t.is((await pull(0, 'shop0', near)).trim(), '2000000')
    // From a network of a larger MTU: its senders must be told by the router.
    for (const one of engines)
      await network(one, 'jumbo', '10.12.0.0/24', '-o', 'com.docker.network.driver.mtu=1500')
    await engine(0).mustDocker(
      ...['run', '-d', '--name', 'jumbo0', '--network', 'jumbo', image, 'sh', '-c', script],
    )
    const far = await engine(0).address('jumbo0', 'jumbo')
    for (const at of [0, 1])
      t.is((await pull(at, `shop${at}`, far)).trim(), '2000000', `host ${at}`)
    await engine(0).mustDocker('rm', '-f', 'jumbo0')
    await engine(1).mustDocker('rm', '-f', 'shop8')
  },
)

onlyLong(
  'stale ARP: a container that has moved is reached at once, also by another MAC',
  async (t) => {
    const where = ['--ip', '10.7.0.77']
    const moves = [
      [0, '02:42:0a:07:00:aa'],
      [1, '02:42:0a:07:00:bb'],
      [0, '02:42:0a:07:00:cc'],
      // On the same host, and with the MAC address that it gets from us.
      [0, '02:42:0a:07:00:dd'],
      [1, undefined],
      [0, undefined],
    ] as const
    for (const [at, mac] of moves) {
      const more = mac === undefined ? [] : ['--mac-address', mac]
      await engine(at).sleeper('moved', 'shop', '--stop-timeout', '1', ...where, ...more)
      // Each has its address from before in its table, and tries it first.
      for (const from of [0, 1]) {
        const ping =
          'for n in 1 2 3 4 5; do ping -c 1 -W 1 10.7.0.77 >/dev/null && break; done; echo $n'
        const tries = Number(await inside(from, `shop${from}`, ping))
        const knows = await inside(from, `shop${from}`, 'cat /proc/net/arp')
        t.true(tries <= 2, `host ${from}, ${mac} on ${at}: ${tries} tries; ${knows}`)
      }
      await engine(at).mustDocker('rm', '-f', 'moved')
    }
  },
)

/** Says what it hears, to each connection alone. */
const echo = 'exec nc -llp 7000 -e cat'

onlyLong('15 idle minutes behind a VIP: a connection goes on', async (t) => {
  t.timeout(20 * 60_000)
  const idleMs = Number(process.env.MIDONET_IDLE_S ?? 905) * 1000
  const members: string[] = []
  for (const at of [0, 1]) {
    await server(at, `shop${7 + at}`, echo)
    members.push(await engine(at).address(`shop${7 + at}`, 'shop'))
  }
  const words = [
    'load-balancer create name idle router shared',
    'load-balancer idle create pool name idle',
    ...members.map(
      (address) =>
        `load-balancer idle pool idle create member address ${address} protocol-port 7000`,
    ),
    'load-balancer idle pool idle create vip address 10.99.0.1 protocol-port 80',
  ]
  const made = await engine(0).midonet('cli', ...words.flatMap((line) => ['-e', line]))
  t.is(made.code, 0, made.stderr)
  // Some to a member on their own host, and some to the one on the other.
  const talks = Array.from({ length: 12 }, (_, number) => ({ at: number % 2, number }))
  const script = `(echo one; sleep ${idleMs / 1000}; echo two; sleep 5) | nc 10.99.0.1 80`
  const heard = await Promise.all(talks.map(({ at }) => inside(at, `shop${at}`, script)))
  for (const [index, text] of heard.entries())
    t.is(text, 'one\ntwo\n', JSON.stringify(talks[index]))
  const removed = await engine(0).midonet('cli', '-e', 'load-balancer idle delete')
  t.is(removed.code, 0, removed.stderr)
  for (const at of [0, 1]) await engine(at).mustDocker('rm', '-f', `shop${7 + at}`)
})
