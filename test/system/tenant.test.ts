/**
 * Tenants that use the same addresses behind one host, and the NAT of their uplinks, with a real
 * Docker Engine and the real datapath.
 */
import test, { type ExecutionContext } from 'ava'
import { Engine, hostAddress, image, outsideAddress } from './engine.ts'

let engine: Engine
const subnet = '10.1.0.0/24'

test.before(async () => {
  engine = await Engine.start()
  for (const tenant of ['red', 'blue']) {
    const ipam = ['--ipam-driver', 'midonet', '--ipam-opt', `org.midonet.space=${tenant}`]
    const router = ['-o', `org.midonet.router=${tenant}`]
    const made = ['network', 'create', '--driver', 'midonet', ...ipam, '--subnet', subnet]
    await engine.mustDocker(...made, ...router, tenant)
    await engine.sleeper(`${tenant}1`, tenant, '--ip', '10.1.0.10')
  }
  await witness('red-web', 'red', '--ip', '10.1.0.20', '-p', '8080:80')
  await witness('blue-web', 'blue', '--ip', '10.1.0.20', '-p', '8081:80')
})

test.after.always('the machine is taken down', async () => {
  await engine?.close()
})

test.afterEach.always('what the agent said', (t) => {
  if (!t.passed) t.log(engine?.log('node'))
})

/** A web server that says its own name, and whom it sees. */
function witness(name: string, on: string, ...options: string[]): Promise<string> {
  const answer = `#!/bin/sh\\necho\\necho ${name} sees $REMOTE_ADDR\\n`
  const script = `mkdir -p /www/cgi-bin; printf '${answer}' >/www/cgi-bin/index.cgi
    chmod +x /www/cgi-bin/index.cgi; exec httpd -f -p 80 -h /www`
  return engine.mustDocker(
    ...['run', '-d', '--name', name, '--network', on, ...options, image, 'sh', '-c', script],
  )
}

/** What a witness says to `from`: a container, `host` or `outside`. */
async function said(from: string, address: string, port = 80): Promise<string> {
  const netns = from === 'outside' ? ['ip', 'netns', 'exec', 'outside'] : []
  const wget = ['timeout', '5', 'wget', '-qO-', `${address}:${port}/cgi-bin/index.cgi`]
  const { stdout } =
    from === 'outside' || from === 'host'
      ? await engine.fetch(address, port, ...netns)
      : await engine.docker('exec', from, ...wget)
  return stdout.trim().replace(/\[::ffff:(.*)\]/, '$1')
}

/** A server that was killed may still hold its port. */
let nextPort = 7000

/** Sends a datagram from a container to the outside; gives what the server there saw. */
async function datagram(t: ExecutionContext, from: string, bytes: number): Promise<string> {
  const port = nextPort++
  const script = `require('node:dgram').createSocket('udp4').bind(${port})
    .on('listening', () => console.log('ready'))
    .on('message', function (text, { address, port }) { this.send(text, port, address)
      console.log(address + ' ' + text.length) })`
  const server = engine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, '-e', script)
  const next = () => new Promise((resolve) => server.stdout?.once('data', resolve))
  await next()
  const seen = next()
  const pid = await engine.mustDocker('inspect', '-f', '{{.State.Pid}}', from)
  const client = `const socket = require('node:dgram').createSocket('udp4')
    socket.on('message', (text) => { console.log(text.length); process.exit() })
    socket.send(Buffer.alloc(${bytes}), ${port}, '${outsideAddress}')
    setTimeout(() => process.exit(), 3000)`
  const enter = ['-t', pid, '-n', '--', process.execPath, '-e', client]
  const echoed = (await engine.run('nsenter', ...enter)).stdout.trim()
  t.is(echoed, String(bytes), 'the answer comes whole')
  const none = new Promise((resolve) => setTimeout(resolve, 1_000, 'nothing'))
  const text = String(await Promise.race([seen, none])).trim()
  server.kill('SIGKILL')
  return text
}

test.serial('the same address of two tenants reaches the outside', async (t) => {
  for (const name of ['red1', 'blue1']) t.true(await engine.reaches(name, outsideAddress), name)
  // Also at the same time, from the same port to the same port.
  const [red, blue] = await Promise.all(['red1', 'blue1'].map((name) => nc(name, 6000)))
  t.deepEqual([red, blue], ['hello', 'hello'])
})

/** What a server outside answers to a container that asks from source port `port`. */
async function nc(container: string, port: number): Promise<string> {
  const at = container === 'red1' ? 7100 : 7101
  const server = `while true; do echo hello | busybox nc -l -p ${at}; done`
  const child = engine.spawn('ip', 'netns', 'exec', 'outside', 'sh', '-c', server)
  const ask = `sleep 0.3; timeout 2 nc -p ${port} ${outsideAddress} ${at} </dev/null`
  const { stdout } = await engine.docker('exec', container, 'sh', '-c', ask)
  child.kill('SIGKILL')
  return stdout.trim()
}

test.serial('tenants with the same addresses do not reach each other', async (t) => {
  t.is(await said('red1', '10.1.0.20'), 'red-web sees 10.1.0.10')
  t.is(await said('blue1', '10.1.0.20'), 'blue-web sees 10.1.0.10')
})

test.serial('a published service sees its client’s own address', async (t) => {
  t.is(await said('outside', hostAddress, 8080), `red-web sees ${outsideAddress}`)
  t.is(await said('outside', hostAddress, 8081), `blue-web sees ${outsideAddress}`)
  t.is(await said('host', hostAddress, 8080), `red-web sees ${hostAddress}`)
})

test.serial('published ports are reached from behind the same uplink, and another', async (t) => {
  for (const from of ['red1', 'red-web', 'blue1'])
    t.regex(await said(from, hostAddress, 8080), /^red-web sees 169\.254\./, from)
  t.regex(await said('host', '127.0.0.1', 8081), /^blue-web sees 169\.254\./)
})

test.serial('addresses that mean two things mean nothing to the host', async (t) => {
  t.is(await said('host', '10.1.0.20'), '')
  const { stdout } = await engine.run('ip', 'route', 'show', subnet)
  t.is(stdout, '')
})

test.serial('one port of two addresses of the host are two services', async (t) => {
  await witness('near', 'red', '-p', '127.0.0.1:8090:80')
  await witness('far', 'red', '-p', `${hostAddress}:8090:80`)
  t.regex(await said('host', '127.0.0.1', 8090), /^near/)
  t.regex(await said('outside', hostAddress, 8090), /^far/)
  await engine.mustDocker('rm', '-f', 'near', 'far')
  t.is(await said('outside', hostAddress, 8090), '')
})

test.serial('long datagrams and pings go out in fragments and come back', async (t) => {
  t.regex(await datagram(t, 'red1', 8000), new RegExp(`^${hostAddress} 8000$`))
  const ping = ['ping', '-c', '2', '-W', '2', '-s', '4000', outsideAddress]
  t.is((await engine.docker('exec', 'blue1', ...ping)).code, 0)
})

test.serial('a connection goes on while the agent is replaced', async (t) => {
  const server = `require('node:net').createServer((socket) => socket.pipe(socket)).listen(7200,
    () => console.log('ready'))`
  const child = engine.spawn('ip', 'netns', 'exec', 'outside', process.execPath, '-e', server)
  await new Promise((resolve) => child.stdout?.once('data', resolve))
  const talk = `( for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 1; done) |
    timeout 20 nc ${outsideAddress} 7200`
  const talking = engine.docker('exec', 'red1', 'sh', '-c', talk)
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  await engine.stopAgent('KILL')
  await engine.startAgent()
  t.deepEqual((await talking).stdout.trim().split('\n'), [...'12345678'])
  child.kill('SIGKILL')
  t.is(await said('outside', hostAddress, 8080), `red-web sees ${outsideAddress}`)
})

/** Runs commands of `midonet cli`; each must be done. */
async function cli(t: ExecutionContext, ...commands: string[]): Promise<void> {
  const { code, stderr } = await engine.midonet('cli', ...commands.flatMap((one) => ['-e', one]))
  t.is(code, 0, stderr)
}

test.serial('containers in security groups are reached by whom a group lets in', async (t) => {
  await cli(
    t,
    ...['chain create name web', 'chain web add rule proto tcp dst-port 80 type accept'],
    ...['chain create name db', 'ip-address-group create name web'],
    'chain db add rule ip-address-group-src web proto tcp dst-port 80 type accept',
  )
  const grouped = (groups: string) => `name=red,"driver-opt=org.midonet.security-groups=${groups}"`
  await witness('front', grouped('web'), '--ip', '10.1.0.30', '-p', '8085:80')
  await witness('back', grouped('db'), '--ip', '10.1.0.31')
  await witness('both', grouped('web,db'), '--ip', '10.1.0.32')

  t.is(await said('red1', '10.1.0.30'), 'front sees 10.1.0.10')
  t.false(await engine.reaches('red1', '10.1.0.30'), 'a port is open, nothing else')
  t.is(await said('outside', hostAddress, 8085), `front sees ${outsideAddress}`)
  t.is(await said('front', '10.1.0.31'), 'back sees 10.1.0.30', 'a member of web')
  t.is(await said('both', '10.1.0.31'), 'back sees 10.1.0.32', 'a member of both')
  t.is(await said('red1', '10.1.0.31'), '', 'no member')
  t.true(await engine.reaches('back', outsideAddress), 'what it asks itself is answered')

  // A running container is put into a group, and out of it.
  const option = ['--driver-opt', 'org.midonet.security-groups=web+db']
  await engine.mustDocker('network', 'disconnect', 'red', 'red1')
  await engine.mustDocker('network', 'connect', ...option, 'red', 'red1')
  t.is(await said('red1', '10.1.0.31'), `back sees ${await engine.address('red1', 'red')}`)
  t.false(await engine.reaches('front', await engine.address('red1', 'red')))
  await engine.mustDocker('network', 'disconnect', 'red', 'red1')
  await engine.mustDocker('network', 'connect', '--ip', '10.1.0.10', 'red', 'red1')
  t.is(await said('red1', '10.1.0.31'), '')
  t.true(await engine.reaches('front', '10.1.0.10'))
})

test.serial('a member sends under no address but its own', async (t) => {
  const spoof = async (from: string, address: string) => {
    const pid = await engine.mustDocker('inspect', '-f', '{{.State.Pid}}', from)
    const ping = `busybox ping -c 1 -W 1 -I ${address} 10.1.0.10`
    const script = `ip addr add ${address}/32 dev eth0; ${ping}`
    return (await engine.run('nsenter', '-t', pid, '-n', '--', 'sh', '-c', script)).code
  }
  t.not(await spoof('front', '10.1.0.40'), 0)
  t.is(await spoof('red-web', '10.1.0.41'), 0, 'who is in no group may')
})

test.serial('a rule that comes or goes is in force at once', async (t) => {
  await cli(t, 'chain web add rule proto icmp type accept')
  t.true(await engine.reaches('red1', '10.1.0.30'))
  await cli(t, 'chain web-out add rule proto icmp type drop')
  t.false(await engine.reaches('front', outsideAddress))
  t.is(await said('red1', '10.1.0.30'), 'front sees 10.1.0.10', 'only what the rule says')
})

/** Waits, a moment, for what Docker's events bring. */
async function soon(t: ExecutionContext, what: string, is: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    if (await is()) break
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  t.true(await is(), what)
}

test.serial('a container’s label puts it into groups, and its name is known', async (t) => {
  const labelled = (groups: string) => ['--label', `org.midonet.security-groups=${groups}`]
  await witness('labelled', 'red', '--ip', '10.1.0.33', ...labelled('db'))
  const has = (label: string) => async () =>
    (await engine.objects('endpoint')).some(({ groupsLabel }) => groupsLabel === label)
  await soon(t, 'the label is followed', has('db'))
  t.is(await said('front', '10.1.0.33'), 'labelled sees 10.1.0.30', 'a member of web')
  t.is(await said('red1', '10.1.0.33'), '', 'no member')

  await witness('alone', 'red', '--ip', '10.1.0.34', ...labelled('nobody'))
  await soon(t, 'the label is followed', has('nobody'))
  t.is(await said('front', '10.1.0.34'), '')
  t.false(await engine.reaches('alone', outsideAddress))
  t.regex(String((await engine.status()).problems), /container alone: .* no security group nobody/)
  await cli(t, 'chain create name nobody', 'chain nobody add rule proto tcp type accept')
  await soon(t, 'the group is there', async () => (await said('front', '10.1.0.34')) !== '')
  t.deepEqual((await engine.status()).problems, [])

  const ports = await engine.midonet('cli', '-e', 'bridge red list port')
  t.regex(ports.stdout, /plugged yes container labelled/, ports.stderr)
  const traced = await engine.midonet(
    ...['trace', '--in', 'labelled', '--packet', 'tcp 10.1.0.33:4000 -> 10.1.0.30:80'],
  )
  t.regex(traced.stdout, /front/, traced.stderr)
  const status = (await engine.midonet('status')).stdout
  t.regex(status, / labelled +red .* db \(label db\)/)
  await engine.mustDocker('rm', '-f', 'labelled', 'alone')
  await cli(t, 'chain nobody delete')
})

test.serial('a group that is not there is refused, and nothing is left of groups', async (t) => {
  const network = 'name=red,driver-opt=org.midonet.security-groups=wbe'
  const { code, stderr } = await engine.docker('run', '--rm', '--network', network, image, 'true')
  t.not(code, 0)
  t.regex(stderr, /no security group wbe; make its chain/)
  await engine.mustDocker('rm', '-f', 'front', 'back', 'both')
  t.deepEqual(await engine.objects('portGroup'), [])
  const chains = (await engine.objects('chain')).map(({ name }) => name)
  t.deepEqual(chains.filter((name) => name !== undefined).toSorted(), ['db', 'web', 'web-out'])
})

test.serial('tenants behind a provider’s router share its uplink', async (t) => {
  for (const tenant of ['gold', 'silver']) {
    const ipam = ['--ipam-driver', 'midonet', '--ipam-opt', `org.midonet.space=${tenant}`]
    const routers = ['-o', `org.midonet.router=${tenant}`, '-o', 'org.midonet.provider=edge']
    const made = ['network', 'create', '--driver', 'midonet', ...ipam, '--subnet', subnet]
    await engine.mustDocker(...made, ...routers, tenant)
  }
  await witness('gold-web', 'gold', '--ip', '10.1.0.20', '-p', '8086:80')
  await witness('silver-web', 'silver', '--ip', '10.1.0.20', '-p', '8087:80')
  const routers = await engine.objects('router')
  const edge = routers.find(({ name }) => name === 'edge')?.id
  const uplinks = (await engine.objects('uplink')).map(({ router }) => router)
  t.is(uplinks.length, 3, 'of red, blue and edge')
  t.true(uplinks.includes(edge))

  for (const name of ['gold-web', 'silver-web'])
    t.true(await engine.reaches(name, outsideAddress), name)
  t.is(await said('outside', hostAddress, 8086), `gold-web sees ${outsideAddress}`)
  t.is(await said('outside', hostAddress, 8087), `silver-web sees ${outsideAddress}`)
  for (const from of ['gold-web', 'silver-web', 'red1', 'host'])
    t.regex(await said(from, hostAddress, 8086), /^gold-web sees /, from)
  t.regex(await said('host', '127.0.0.1', 8087), /^silver-web sees /)
  t.is(await datagram(t, 'gold-web', 8000), `${hostAddress} 8000`)
  const hops = await engine.docker(
    ...['exec', 'gold-web', 'traceroute', '-n', '-q', '1', '-w', '2', '-m', '4', outsideAddress],
  )
  t.regex(hops.stdout, /1 +10\.1\.0\.1 [\s\S]* 2 +169\.254\.[\s\S]* 4 +192\.0\.2\.2 /)
})

test.serial('nothing is left of a provider and its tenants', async (t) => {
  await engine.mustDocker('rm', '-f', 'gold-web', 'silver-web')
  await engine.mustDocker('network', 'rm', 'gold', 'silver')
  const names = (await engine.objects('router')).map(({ name }) => name)
  t.deepEqual(names.toSorted(), ['blue', 'red'])
  const chains = (await engine.objects('chain')).map(({ id }) => String(id))
  t.is(chains.filter((id) => id.endsWith('-published')).length, 2)
})
