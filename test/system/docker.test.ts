/** What a Docker user gets, with a real Docker Engine and the real datapath. */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Engine, hostAddress, image, outsideAddress } from './engine.ts'

let engine: Engine

test.before(async () => {
  engine = await Engine.start()
  await network('red', '10.1.0.0/24', '-o', 'org.midonet.router=shared')
  await network('blue', '10.2.0.0/24', '-o', 'org.midonet.router=shared')
  await network('alone', '10.3.0.0/24')
  await engine.sleeper('red1', 'red')
  await engine.sleeper('red2', 'red')
  await engine.sleeper('blue1', 'blue')
  await engine.sleeper('alone1', 'alone')
})

test.after.always('the machine is taken down', async () => {
  await engine?.close()
})

test.afterEach.always('what the agent said', (t) => {
  if (!t.passed) t.log(engine?.log('node'))
})

function network(name: string, subnet: string, ...options: string[]): Promise<string> {
  return engine.mustDocker(
    ...['network', 'create', '--driver', 'midonet', '--subnet', subnet],
    ...options,
    name,
  )
}

/** What a container's web server says, asked by `from` (a container, `host` or `outside`). */
async function fetchFrom(from: string, address: string, port = 80): Promise<string> {
  const outside = ['ip', 'netns', 'exec', 'outside']
  const { stdout } =
    from === 'host' || from === 'outside'
      ? await engine.fetch(address, port, ...(from === 'host' ? [] : outside))
      : await engine.docker('exec', from, 'timeout', '2', 'wget', '-qO-', `${address}:${port}`)
  return stdout.trim()
}

/** A web server that says its own name. */
function server(name: string, on: string, ...options: string[]): Promise<string> {
  const script = `echo ${name} > /www/index.html; exec httpd -f -p 80 -h /www`
  const base = ['run', '-d', '--name', name, '--network', on, ...options]
  return engine.mustDocker(...base, image, 'sh', '-c', script)
}

test.serial('containers of one network reach each other', async (t) => {
  t.true(await engine.reaches('red1', await engine.address('red2', 'red')))
})

test.serial('containers of two networks on one router reach each other', async (t) => {
  t.true(await engine.reaches('red1', await engine.address('blue1', 'blue')))
  t.true(await engine.reaches('blue1', await engine.address('red2', 'red')))
})

test.serial('a router decrements the time to live, a bridge does not', async (t) => {
  const ttl = async (address: string) =>
    (await engine.docker('exec', 'red1', 'ping', '-c', '1', address)).stdout.match(/ttl=(\d+)/)?.[1]
  t.is(await ttl(await engine.address('red2', 'red')), '64')
  t.is(await ttl(await engine.address('blue1', 'blue')), '63')
})

test.serial("Docker's names work", async (t) => {
  t.true(await engine.reaches('red1', 'red2'))
})

test.serial('networks without a common router do not reach each other', async (t) => {
  t.false(await engine.reaches('red1', await engine.address('alone1', 'alone')))
  t.false(await engine.reaches('alone1', await engine.address('red1', 'red')))
})

test.serial("Docker's own bridge networks and ours do not reach each other", async (t) => {
  await engine.mustDocker('network', 'create', 'plain')
  await engine.sleeper('plain1', 'plain')
  t.false(await engine.reaches('plain1', await engine.address('red1', 'red')))
  t.false(await engine.reaches('red1', await engine.address('plain1', 'plain')))
  await engine.mustDocker('rm', '-f', 'plain1')
  await engine.mustDocker('network', 'rm', 'plain')
})

test.serial('containers reach the outside, under the address of the host', async (t) => {
  // Outside knows no way back to container addresses, so an answer proves the translation.
  t.true(await engine.reaches('red1', outsideAddress))
  t.true(await engine.reaches('alone1', outsideAddress))
})

test.serial('the host reaches its containers', async (t) => {
  const address = await engine.address('red1', 'red')
  t.is((await engine.run('busybox', 'ping', '-c', '2', '-W', '1', address)).code, 0)
})

test.serial('an internal network has no way out and is not reached from the host', async (t) => {
  await network('cellar', '10.4.0.0/24', '--internal')
  await engine.sleeper('cellar1', 'cellar')
  await engine.sleeper('cellar2', 'cellar')
  const address = await engine.address('cellar2', 'cellar')
  t.true(await engine.reaches('cellar1', address))
  t.false(await engine.reaches('cellar1', outsideAddress))
  t.false(await engine.reaches('cellar1', await engine.address('red1', 'red')))
  t.not((await engine.run('busybox', 'ping', '-c', '1', '-W', '1', address)).code, 0)
  await engine.mustDocker('rm', '-f', 'cellar1', 'cellar2')
  await engine.mustDocker('network', 'rm', 'cellar')
})

test.serial(
  'an internal network on a shared router reaches its networks and no further',
  async (t) => {
    await network('vault', '10.5.0.0/24', '--internal', '-o', 'org.midonet.router=shared')
    await engine.sleeper('vault1', 'vault')
    t.true(await engine.reaches('vault1', await engine.address('red1', 'red')))
    t.true(await engine.reaches('red1', await engine.address('vault1', 'vault')))
    t.false(await engine.reaches('vault1', outsideAddress))
    await engine.mustDocker('rm', '-f', 'vault1')
    await engine.mustDocker('network', 'rm', 'vault')
  },
)

test.serial('a published port is reached from outside, the host, and containers', async (t) => {
  await server('web', 'red', '-p', '8080:80')
  for (const from of ['outside', 'host', 'red1', 'web', 'blue1', 'alone1'])
    t.is(await fetchFrom(from, hostAddress, 8080), 'web', from)
  t.is(await fetchFrom('host', '127.0.0.1', 8080), 'web')
  t.is(await fetchFrom('host', await engine.address('web', 'red')), 'web')
})

test.serial('a port that is not published is not reached, even by who knows the way', async (t) => {
  const address = await engine.address('web', 'red')
  await engine.outside('ip', 'route', 'add', '10.0.0.0/8', 'via', hostAddress)
  t.is(await fetchFrom('outside', address), '')
  await engine.outside('ip', 'route', 'del', '10.0.0.0/8')
})

test.serial('a port published on one address is not reached by another', async (t) => {
  await server('local', 'red', '-p', '127.0.0.1:8081:80')
  t.is(await fetchFrom('host', '127.0.0.1', 8081), 'local')
  t.is(await fetchFrom('outside', hostAddress, 8081), '')
  await engine.mustDocker('rm', '-f', 'local')
})

test.serial('a host port is published once, and free again afterwards', async (t) => {
  const again = await engine.docker(
    ...['run', '--rm', '--network', 'blue', '-p', '8080:80', image, 'true'],
  )
  t.not(again.code, 0)
  t.regex(again.stderr, /8080.*(allocated|in use)/)
  await engine.mustDocker('rm', '-f', 'web')
  t.is(await fetchFrom('outside', hostAddress, 8080), '')
  await server('web', 'blue', '-p', '8080:80')
  t.is(await fetchFrom('outside', hostAddress, 8080), 'web')
  await engine.mustDocker('rm', '-f', 'web')
})

/** Answers each UDP packet to port 9000 of a container with the container's name. */
async function answerUdp(name: string): Promise<void> {
  const pid = await engine.mustDocker('inspect', '-f', '{{.State.Pid}}', name)
  const server = `const socket = require('node:dgram').createSocket('udp4').bind(9000)
    socket.on('message', (_, { port, address }) => socket.send('${name}\\n', port, address))
    socket.on('listening', () => console.log('ready'))`
  const child = engine.spawn('nsenter', '-t', pid, '-n', '--', process.execPath, '-e', server)
  await new Promise((resolve) => child.stdout?.once('data', resolve))
}

test.serial('UDP ports are published too, also to a client that never pauses', async (t) => {
  // One socket, so one connection to the host's connection tracking, that is never idle.
  const client = `const socket = require('node:dgram').createSocket('udp4').bind(5555)
    setInterval(() => socket.send('x', 9000, '${hostAddress}', () => {}), 50)
    socket.on('error', () => {}).on('message', (text) => console.log(String(text).trim()))`
  const netns = ['ip', 'netns', 'exec', 'outside'] as const
  const child = engine.spawn(...netns, process.execPath, '-e', client)
  let heard = ''
  child.stdout?.on('data', (text) => {
    heard = String(text).trim().split('\n').at(-1) ?? ''
  })
  for (const name of ['echo1', 'echo2']) {
    await engine.sleeper(name, 'red', '-p', '9000:9000/udp')
    await answerUdp(name)
    for (let tries = 0; tries < 100 && heard !== name; tries++) await sleep(50)
    t.is(heard, name)
    // The next one gets another address: this one's is kept by somebody else.
    await engine.mustDocker('rm', '-f', name)
    await engine.sleeper(`after-${name}`, 'red')
  }
  child.kill('SIGKILL')
  await engine.mustDocker('rm', '-f', 'after-echo1', 'after-echo2')
})

test.serial('--ip and --mac-address are kept', async (t) => {
  const mac = '02:aa:bb:cc:dd:01'
  await engine.sleeper('fixed', 'red', '--ip', '10.1.0.77', '--mac-address', mac)
  t.is(await engine.address('fixed', 'red'), '10.1.0.77')
  const shown = (await engine.mustDocker('exec', 'fixed', 'ip', 'address', 'show', 'eth0')).trim()
  t.true(shown.includes(mac))
  t.true(shown.includes('10.1.0.77/24'))
  t.true(await engine.reaches('red1', '10.1.0.77'))
  const twice = await engine.docker(
    ...['run', '--rm', '--network', 'red', '--ip', '10.1.0.77', image, 'true'],
  )
  t.not(twice.code, 0)
  await engine.mustDocker('rm', '-f', 'fixed')
})

test.serial('a running container is connected to and disconnected from a network', async (t) => {
  await engine.mustDocker('network', 'connect', 'alone', 'red1')
  const address = await engine.address('alone1', 'alone')
  t.true(await engine.reaches('red1', address))
  await engine.mustDocker('network', 'disconnect', 'alone', 'red1')
  t.false(await engine.reaches('red1', address))
  t.true(await engine.reaches('red1', await engine.address('red2', 'red')))
})

test.serial('a restarted or killed and started container is reached again', async (t) => {
  await engine.mustDocker('restart', '-t', '0', 'red2')
  t.true(await engine.reaches('red1', await engine.address('red2', 'red')))
  await engine.mustDocker('kill', 'red2')
  await engine.mustDocker('start', 'red2')
  t.true(await engine.reaches('red1', await engine.address('red2', 'red')))
})

test.serial('the MTU is the option, or 1500', async (t) => {
  await network('small', '10.6.0.0/24', '-o', 'org.midonet.mtu=1400')
  const mtu = (on: string) =>
    engine.mustDocker(...['run', '--rm', '--network', on, image, 'cat', '/sys/class/net/eth0/mtu'])
  t.is(await mtu('small'), '1400')
  t.is(await mtu('red'), '1500')
  await engine.mustDocker('network', 'rm', 'small')
})

test.serial('packets of the full MTU pass, within a network and across the router', async (t) => {
  const ping = (address: string) =>
    engine.docker('exec', 'red1', 'ping', '-c', '2', '-W', '1', '-s', '1472', address)
  t.is((await ping(await engine.address('red2', 'red'))).code, 0)
  t.is((await ping(await engine.address('blue1', 'blue'))).code, 0)
  t.is((await ping(outsideAddress)).code, 0)
})

test.serial(
  'IPv6 crosses bridge and router, and goes out under an address of the host',
  async (t) => {
    await engine.run('ip', 'address', 'add', '2001:db8::1/64', 'dev', 'eth0', 'nodad')
    await engine.outside('ip', 'address', 'add', '2001:db8::2/64', 'dev', 'eth0', 'nodad')
    const router = ['-o', 'org.midonet.router=six']
    await network('six', '10.7.0.0/24', '--ipv6', '--subnet', 'fd00:7::/64', ...router)
    await network('seven', '10.17.0.0/24', '--ipv6', '--subnet', 'fd00:17::/64', ...router)
    await network('eight', '10.18.0.0/24', '--ipv6', '--subnet', 'fd00:18::/64')
    for (const [name, on] of [
      ['six1', 'six'],
      ['six2', 'six'],
      ['seven1', 'seven'],
      ['eight1', 'eight'],
    ] as const)
      await engine.sleeper(name, on)
    const address = (name: string, on: string) =>
      engine.mustDocker(
        ...['inspect', '-f', `{{.NetworkSettings.Networks.${on}.GlobalIPv6Address}}`, name],
      )
    const reaches6 = async (to: string, ...more: string[]) =>
      (await engine.docker('exec', 'six1', 'ping', '-6', '-c', '2', '-W', '2', ...more, to))
        .code === 0
    t.true(await reaches6(await address('six2', 'six')))
    t.true(await reaches6(await address('seven1', 'seven')), 'by the router')
    t.true(await reaches6('2001:db8::2'), 'outside')
    t.true(await reaches6('2001:db8::2', '-s', '4000'), 'in fragments')
    t.false(await reaches6(await address('eight1', 'eight')), 'another router')
    await server('web6', 'seven', '-p', '8066:80')
    t.is(await fetchFrom('outside', '2001:db8::1', 8066), 'web6')
    t.is(await fetchFrom('six1', '[2001:db8::1]', 8066), 'web6', 'behind the same uplink')
    await engine.mustDocker('rm', '-f', 'web6')
    await engine.mustDocker('rm', '-f', 'six1', 'six2', 'seven1', 'eight1')
    await engine.mustDocker('network', 'rm', 'six', 'seven', 'eight')
  },
)

test.serial("with gateway=docker the way out and ports are Docker's", async (t) => {
  await network(
    ...(['theirs', '10.8.0.0/24', '-o', 'org.midonet.gateway=docker'] as const),
    ...['-o', 'org.midonet.router=shared'],
  )
  await server('shown', 'theirs', '-p', '8082:80')
  t.regex(await engine.mustDocker('port', 'shown'), /80\/tcp -> 0\.0\.0\.0:8082/)
  t.is(await fetchFrom('outside', hostAddress, 8082), 'shown')
  t.true(await engine.reaches('shown', outsideAddress))
  t.true(await engine.reaches('shown', await engine.address('red1', 'red')))
  await engine.mustDocker('rm', '-f', 'shown')
  await engine.mustDocker('network', 'rm', 'theirs')
})

test.serial('our IPAM driver gives addresses, also without a subnet', async (t) => {
  const ipam = ['--driver', 'midonet', '--ipam-driver', 'midonet']
  await engine.mustDocker('network', 'create', ...ipam, 'pooled')
  await engine.sleeper('pooled1', 'pooled')
  await engine.sleeper('pooled2', 'pooled')
  const addresses = await Promise.all(
    ['pooled1', 'pooled2'].map((name) => engine.address(name, 'pooled')),
  )
  t.is(new Set(addresses).size, 2)
  t.true(await engine.reaches('pooled1', addresses[1] ?? ''))
  await engine.mustDocker('rm', '-f', 'pooled1', 'pooled2')
  await engine.mustDocker('network', 'rm', 'pooled')
  t.deepEqual(await engine.objects('pool'), [])
})

test.serial('what cannot work is refused with a sentence', async (t) => {
  const refused = async (...args: string[]) => {
    const result = await engine.docker('network', 'create', '--driver', 'midonet', ...args, 'no')
    t.not(result.code, 0, args.join(' '))
    return result.stderr
  }
  t.regex(await refused('--subnet', '192.0.2.0/25'), /overlaps .*eth0.*choose another --subnet/s)
  const ours = ['--ipam-driver', 'midonet', '--subnet', '10.1.0.128/25']
  t.regex(await refused(...ours, '-o', 'org.midonet.router=shared'), /overlaps.*same router/)
  t.regex(await refused('-o', 'org.midonet.rooter=x'), /org\.midonet\.router/)
  t.deepEqual(
    (await engine.mustDocker('network', 'ls', '-q', '-f', 'driver=midonet')).split('\n').length,
    3,
  )
})

test.serial('inspect and status tell the same endpoints', async (t) => {
  const inspected: unknown = JSON.parse(await engine.mustDocker('network', 'inspect', 'red'))
  const text = JSON.stringify(inspected)
  const endpoints = await engine.objects('endpoint')
  const onRed = endpoints.filter(({ address }) => String(address).startsWith('10.1.0.'))
  t.is(onRed.length, 2)
  for (const { id } of onRed) t.true(text.includes(String(id)))
  t.regex((await engine.midonet('status')).stdout, /ebpf/)
})

test.serial('trace tells the way of a packet', async (t) => {
  const format = '{{.NetworkSettings.Networks.red.EndpointID}}'
  const port = await engine.mustDocker('inspect', '-f', format, 'red1')
  const addresses = [await engine.address('red1', 'red'), await engine.address('blue1', 'blue')]
  const packet = `icmp ${addresses.join(' -> ')}`
  const { stdout, stderr, code } = await engine.midonet('trace', '--in', port, '--packet', packet)
  t.is(code, 0, stderr)
  t.regex(stdout, /router/)
})

test.serial('nothing is left when all is removed', async (t) => {
  await engine.mustDocker('rm', '-f', 'red1', 'red2', 'blue1', 'alone1')
  await engine.mustDocker('network', 'prune', '-f')
  // Docker is answered before the host's side is gone.
  const rest = async () => [
    ...Object.entries(await engine.leftovers()).filter(([, count]) => count > 0),
    ...(await engine.run('nft', 'list', 'tables')).stdout.matchAll(/midonet/g),
    ...(await engine.run('iptables', '-S')).stdout.matchAll(/midonet/g),
  ]
  for (let tries = 0; tries < 20 && (await rest()).length > 0; tries++) await sleep(100)
  t.deepEqual(await rest(), [])
})
