/**
 * The CNI plugin as container runtimes run it, on a machine without Docker: the calls of the
 * specification one by one, podman, and the agent's and the containers' deaths.
 */
import { readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { Engine, hostAddress, type Leftovers, outsideAddress } from './engine.ts'

const plugin = new URL('../../cli/cni.js', import.meta.url).pathname
const net = {
  cniVersion: '1.1.0',
  name: 'blue',
  type: 'midonet-cni',
  router: 'r1',
  ipam: { type: 'midonet', subnet: '10.9.0.0/24' },
  capabilities: { portMappings: true, ips: true, mac: true },
}
let engine: Engine
let before: Leftovers

interface Done {
  readonly code: number | null
  readonly json: Record<string, unknown>
}

test.before(async () => {
  engine = await Engine.open()
  await engine.startAgent()
  before = await engine.leftovers()
  for (const name of ['a', 'b', 'c', 'd']) await engine.run('ip', 'netns', 'add', name)
})

test.after.always('the machine is taken down', async () => {
  await engine?.close()
})

test.afterEach.always('what the agent said', (t) => {
  if (!t.passed) t.log(engine?.log('node'))
})

/** Runs the plugin for the namespace `at` as a runtime does. */
async function cni(command: string, at: string, config: object = net, more = {}): Promise<Done> {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: `container-${at}`,
    CNI_NETNS: `/run/netns/${at}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/usr/lib/cni',
    ...more,
  }
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const child = engine.spawn('env', ...variables, process.execPath, plugin)
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  child.stdin?.end(JSON.stringify(config))
  const [out, log] = await Promise.all([child.stdout, child.stderr].map((one) => one && text(one)))
  const code = await ended
  return { code, json: out ? JSON.parse(out) : { log } }
}

async function must(t: ExecutionContext, ...call: Parameters<typeof cni>): Promise<Done['json']> {
  const { code, json } = await cni(...call)
  t.is(code, 0, JSON.stringify(json))
  return json
}

/** One entry of a list in a result. */
function part(result: Done['json'], list: string, at: number): Record<string, unknown> {
  const entries: unknown = result[list]
  return Array.isArray(entries) ? entries[at] : {}
}

function inside(at: string, ...command: string[]) {
  return engine.run('ip', 'netns', 'exec', at, ...command)
}

async function reaches(at: string, address: string): Promise<boolean> {
  for (let tries = 0; tries < 3; tries++)
    if ((await inside(at, 'busybox', 'ping', '-c', '1', '-W', '1', address)).code === 0) return true
  return false
}

test.serial('ADD attaches a container: address, route, way out, neighbours', async (t) => {
  const added = await must(t, 'ADD', 'a')
  t.is(added.cniVersion, '1.1.0')
  t.like(added, { ips: [{ address: '10.9.0.2/24', gateway: '10.9.0.1', interface: 1 }] })
  t.like(part(added, 'interfaces', 1), { name: 'eth0', sandbox: '/run/netns/a', mtu: 1500 })
  t.deepEqual(added.routes, [{ dst: '0.0.0.0/0', gw: '10.9.0.1' }])
  t.like(await must(t, 'ADD', 'b'), { ips: [{ address: '10.9.0.3/24' }] })
  t.true(await reaches('a', '10.9.0.3'))
  t.true(await reaches('b', '10.9.0.1'))
  t.true(await reaches('b', outsideAddress))
  t.deepEqual((await engine.status()).problems, [], 'no Docker is missed where none is')
})

test.serial('CHECK compares with what there is', async (t) => {
  const fresh = { ...net, name: 'red', router: 'r2' }
  const prevResult = await must(t, 'ADD', 'c', fresh)
  await must(t, 'CHECK', 'c', { ...fresh, prevResult })
  await inside('c', 'ip', 'address', 'del', '10.9.0.2/24', 'dev', 'eth0')
  const { code, json } = await cni('CHECK', 'c', { ...fresh, prevResult })
  t.is(code, 1)
  t.like(json, { code: 102, msg: 'interface eth0 has not the address 10.9.0.2/24' })
  t.like(await cni('CHECK', 'd', { ...fresh, prevResult }), { code: 1, json: { code: 3 } })
})

test.serial('an interface that is there is refused, DEL of what is unknown is not', async (t) => {
  t.like(await cni('ADD', 'a'), { code: 1, json: { code: 101 } })
  t.true(await reaches('a', '10.9.0.3'), 'and the first one is as it was')
  await must(t, 'DEL', 'd')
  await must(t, 'DEL', 'c', { ...net, name: 'red', router: 'r2' })
  await must(t, 'DEL', 'c', { ...net, name: 'red', router: 'r2' })
  t.like(await cni('ADD', 'nobody'), { code: 1, json: { code: 3 } })
})

test.serial('runtimes of older versions are answered in their own form', async (t) => {
  const older = (cniVersion: string) => ({ ...net, cniVersion })
  const form = async (version: string) => {
    const result = await must(t, 'ADD', 'd', older(version))
    await must(t, 'DEL', 'd', older(version))
    return result
  }
  t.like(await form('0.2.0'), { ip4: { gateway: '10.9.0.1', routes: [{ dst: '0.0.0.0/0' }] } })
  t.like(await form('0.3.1'), { cniVersion: '0.3.1', ips: [{ version: '4', interface: 1 }] })
  t.like(await form('0.4.0'), { cniVersion: '0.4.0', ips: [{ version: '4', interface: 1 }] })
  t.false('version' in Object(part(await form('1.0.0'), 'ips', 0)))
  const status = async (version: string) => (await cni('STATUS', 'd', older(version))).json.code
  t.deepEqual([await status('1.1.0'), await status('1.0.0')], [undefined, 1])
})

test.serial('ports, MAC, address and routes are as the runtime wishes', async (t) => {
  const wishes = {
    ...net,
    routes: [{ dst: '198.51.100.0/24' }],
    runtimeConfig: {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
      mac: '02:00:00:00:0C:01',
      ips: ['10.9.0.77/24'],
    },
  }
  const prevResult = await must(t, 'ADD', 'c', wishes)
  t.like(prevResult, { ips: [{ address: '10.9.0.77/24' }] })
  t.like(part(prevResult, 'interfaces', 1), { mac: '02:00:00:00:0c:01' })
  const server = `while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhi\\n' | busybox nc -l -p 80; done`
  const child = engine.spawn('ip', 'netns', 'exec', 'c', 'sh', '-c', server)
  await sleep(500)
  const outside = ['ip', 'netns', 'exec', 'outside']
  t.is((await engine.fetch(hostAddress, 8080, ...outside)).stdout.trim(), 'hi')
  child.kill('SIGKILL')
  t.regex((await inside('c', 'ip', 'route')).stdout, /198\.51\.100\.0\/24 via 10\.9\.0\.1/)
  await must(t, 'CHECK', 'c', { ...wishes, prevResult })
  t.like(await cni('ADD', 'd', wishes), { code: 1, json: { code: 103 } }, 'the address is taken')
  await must(t, 'DEL', 'c', wishes)
  t.is((await engine.fetch(hostAddress, 8080, ...outside)).stdout, '')
})

test.serial('IPv6, an MTU, and a group that is not there', async (t) => {
  const six = {
    ...{ ...net, name: 'six', router: 'r6', mtu: 1400 },
    ipam: { type: 'midonet', subnet: '10.10.0.0/24', subnet6: 'fd99::/64' },
  }
  t.like(part(await must(t, 'ADD', 'c', six), 'ips', 1), { gateway: 'fd99::1' })
  t.like(part(await must(t, 'ADD', 'd', six), 'ips', 1), { address: 'fd99::3/64' })
  t.is((await inside('c', 'busybox', 'ping', '-c', '2', '-W', '2', 'fd99::3')).code, 0)
  t.regex((await inside('c', 'ip', 'link', 'show', 'eth0')).stdout, /mtu 1400/)
  for (const at of ['c', 'd']) await must(t, 'DEL', at, six)
  const groups = { ...net, securityGroups: ['nobody'] }
  const { json } = await cni('ADD', 'c', groups)
  t.regex(String(json.msg), /no security group nobody; make its chain/)
  t.is((await inside('c', 'ip', 'link', 'show', 'eth0')).code, 1, 'nothing is left of it')
  t.like((await cni('ADD', 'c', { ...net, securityGroup: 'web' })).json, { code: 2 })
})

test.serial('an IPAM plugin gives the addresses', async (t) => {
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: '10.11.0.0/24' }]],
    routes: [{ dst: '0.0.0.0/0' }],
    dataDir: '/run/host-local',
  }
  const config = { ...net, name: 'local', router: 'r3', ipam }
  const prevResult = await must(t, 'ADD', 'c', config)
  t.like(prevResult, { ips: [{ address: '10.11.0.2/24', gateway: '10.11.0.1' }] })
  t.like(await must(t, 'ADD', 'd', config), { ips: [{ address: '10.11.0.3/24' }] })
  t.true(await reaches('c', '10.11.0.3'))
  t.true(await reaches('c', outsideAddress))
  await must(t, 'CHECK', 'c', { ...config, prevResult })
  const held = async () => (await engine.run('ls', '/run/host-local/local')).stdout
  t.regex(await held(), /10\.11\.0\.3/)
  const attachments = [{ containerID: 'container-c', ifname: 'eth0' }]
  await must(t, 'GC', 'd', { ...config, 'cni.dev/valid-attachments': attachments })
  t.notRegex(await held(), /10\.11\.0\.3/)
  t.true(await reaches('c', outsideAddress))
  const taken = { ...config, ipam: { type: 'absent' } }
  t.regex(String((await cni('ADD', 'd', taken)).json.msg), /no IPAM plugin absent/)
  await must(t, 'DEL', 'c', config)
  t.notRegex(await held(), /10\.11\.0\.2/)
})

test.serial('attachments outlive the agent; what died with a namespace is removed', async (t) => {
  await engine.stopAgent('KILL')
  t.true(await reaches('a', '10.9.0.3'), 'without an agent')
  t.like(await cni('ADD', 'c'), { code: 1, json: { code: 11 } })
  t.like(await cni('STATUS', 'c'), { code: 1, json: { code: 50 } })
  await engine.run('ip', 'netns', 'del', 'b')
  await engine.startAgent()
  await must(t, 'STATUS', 'c')
  await must(t, 'ADD', 'c')
  for (let tries = 0; tries < 30 && (await engine.objects('endpoint')).length > 2; tries++)
    await sleep(1_000)
  t.is((await engine.objects('endpoint')).length, 2, 'of a and c')
  await engine.run('ip', 'netns', 'add', 'b')
  const { repairs } = await engine.status()
  t.regex(JSON.stringify(repairs), /container-b\/eth0 \(10\.9\.0\.3\/24\): its network namespace/)
  t.true(await reaches('c', '10.9.0.2'))
})

function example(name: string) {
  return JSON.parse(readFileSync(new URL(`../../../examples/cni/${name}`, import.meta.url), 'utf8'))
}

/** What Mesos' network/cni isolator asks of a configuration, or it leaves the network out. */
function isForMesos({ name, type, ipam }: Record<string, unknown>): boolean {
  const plugins: unknown[] = ['midonet-cni']
  return (
    typeof name === 'string' &&
    plugins.includes(type) &&
    (ipam === undefined || plugins.includes(Object(ipam).type))
  )
}

test.serial('the example of Mesos, called as its isolator calls it', async (t) => {
  const config = example('mesos.json')
  t.true(isForMesos(config))
  const [network_info] = example('mesos-task.json').container.network_infos
  t.is(network_info.name, config.name)
  const [label] = network_info.labels.labels
  const made = await engine.midonet('cli', '-e', `chain create name ${label.value}`)
  t.is(made.code, 0, made.stderr)
  // Kept, and given again for DEL, which for an orphan knows no namespace.
  const kept = { ...config, args: { 'org.apache.mesos': { network_info } } }
  const container = '5baff64c-d028-47ba-864e-a5ee679fc069'
  const path = `/run/mesos/isolators/network/cni/${container}/ns`
  const handle = 'mkdir -p "$(dirname "$1")"; touch "$1"; mount --bind /run/netns/d "$1"'
  t.is((await engine.run('sh', '-ec', handle, 'sh', path)).code, 0)
  const variables = { CNI_CONTAINERID: container, CNI_NETNS: path, CNI_PATH: '/opt/cni/bin' }
  const added = await must(t, 'ADD', 'd', kept, variables)
  t.like(added, { ip4: { ip: '10.20.1.0/16', gateway: '10.20.0.1' }, dns: config.dns })
  t.true(await reaches('d', hostAddress), 'an executor reaches the Mesos agent')
  const [endpoint] = (await engine.objects('endpoint')).filter(
    ({ cni }) => Object(cni).container === container,
  )
  t.like(endpoint, {
    securityGroups: [label.value],
    publications: [{ hostPort: network_info.port_mappings[0].host_port, port: 80 }],
  })
  await engine.run('umount', path)
  await must(t, 'DEL', 'd', kept, { CNI_CONTAINERID: container, CNI_NETNS: '' })
  t.is((await inside('d', 'ip', 'link', 'show', 'eth0')).code, 1)
  const gone = await engine.midonet('cli', '-e', `chain ${label.value} delete`)
  t.is(gone.code, 0, gone.stderr)
})

/** Podman with its networks by CNI, and an image that holds busybox. */
async function preparePodman(t: ExecutionContext): Promise<void> {
  const list = example('podman.conflist')
  list.plugins[0].router = 'r1'
  const settings = `[network]
network_backend = "cni"
cni_plugin_dirs = ["/run/plugins", "/usr/lib/cni"]
network_config_dir = "/run/networks"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
`
  const script = `set -e
mkdir -p /run/plugins /run/networks /run/image/bin
ln -s ${plugin} /run/plugins/midonet-cni
printf '%s' "$1" >/run/networks/orange.conflist
printf '%s' "$2" >/run/containers.conf
cp "$(command -v busybox)" /run/image/bin/
for name in sh sleep ping ip httpd; do ln -s busybox /run/image/bin/$name; done
chmod 755 ${plugin}
tar -C /run/image -c . >/run/image.tar
`
  const { code, stderr } = await engine.run(
    ...['sh', '-c', script, 'sh', JSON.stringify(list), settings],
  )
  t.is(code, 0, stderr)
  await podman(t, 'import', '/run/image.tar', 'busy')
}

async function podman(t: ExecutionContext, ...args: string[]): Promise<string> {
  const own = ['--root=/run/podman', '--runroot=/run/podman-run', '--storage-driver=vfs']
  const command = ['CONTAINERS_CONF=/run/containers.conf', 'podman', ...own, ...args]
  const { code, stdout, stderr } = await engine.run('env', ...command)
  t.is(code, 0, `podman ${args.join(' ')}: ${stderr}`)
  return stdout.trim()
}

test.serial('podman runs containers on it, with published ports', async (t) => {
  await preparePodman(t)
  const run = ['run', '-d', `--cgroup-parent=${engine.cgroup}`, '--network', 'orange']
  await podman(t, ...run, '--name', 'one', '-p', '8081:80', 'busy', 'httpd', '-f', '-h', '/bin')
  await podman(t, ...run, '--name', 'two', '--ip', '10.12.0.50', 'busy', 'sleep', '100000')
  await podman(t, 'exec', 'one', 'ping', '-c', '1', '-W', '2', '10.12.0.50')
  await podman(t, 'exec', 'two', 'ping', '-c', '1', '-W', '2', outsideAddress)
  t.true(await reaches('a', '10.12.0.50'), 'a container of another network of the router')
  const outside = ['ip', 'netns', 'exec', 'outside']
  t.regex((await engine.fetch(hostAddress, 8081, ...outside)).stdout, /404|Not Found|html/i)
  await podman(t, 'rm', '-f', '-t', '0', 'one', 'two')
  const networks = await engine.objects('network')
  t.false(networks.some(({ cni }) => Object(cni).name === 'orange'))
})

test.serial('nothing is left when everyone is gone', async (t) => {
  await must(t, 'DEL', 'a')
  await must(t, 'GC', 'c', { ...net, 'cni.dev/valid-attachments': [] })
  t.deepEqual(await engine.leftovers(), before)
  t.deepEqual(await engine.objects('pool'), [])
  t.deepEqual(await engine.objects('router'), [])
})
