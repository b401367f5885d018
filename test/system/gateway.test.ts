/**
 * The gateway on a real kernel. Linux namespaces stand for the virtual routers:
 *
 *   outside ── eth0 │ machine │ mu… ═ mn… ─ bridge ── r1: 10.1.0.5
 *                   │         │ mu… ═ mn… ─ bridge ── r2: 10.2.0.5
 */
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Engine, hostAddress, outsideAddress } from './engine.ts'

interface Uplink {
  readonly router: string
  readonly interface: string
  readonly hostAddress: string
  readonly hostMac: string
  readonly mac: string
  readonly address: string
}

interface Answer {
  readonly uplinks: readonly Uplink[]
  readonly repairs: readonly { readonly what: string }[]
  readonly status: { readonly problems: readonly string[] }
}

let machine: Engine
let host: ChildProcess
let answers: AsyncIterator<string>

test.before(async () => {
  machine = await Engine.open()
  await sh('echo 1 >/proc/sys/net/ipv4/ip_forward')
  // The Linux bridges stand for our datapath, which netfilter does not see.
  await sh('f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 0 >$f')
  const script = new URL('./gateway-host.js', import.meta.url).pathname
  host = machine.spawn(process.execPath, script)
  host.stderr?.pipe(process.stderr)
  if (host.stdout === null) return
  answers = createInterface({ input: host.stdout })[Symbol.asyncIterator]()
  for (const uplink of (await ask('settle')).uplinks) await makeRouter(uplink)
  await machine.run('ip', 'netns', 'exec', 'r1', 'sh', '-c', httpd('web'))
  await machine.run('ip', 'netns', 'exec', 'r2', 'sh', '-c', httpd('blue'))
})

test.after.always('the machine is taken down', async () => {
  await machine?.close()
})

function httpd(name: string): string {
  return `mkdir -p /run/${name}; echo ${name} >/run/${name}/index.html; busybox httpd -p 80 -h /run/${name}`
}

async function ask(line: string): Promise<Answer> {
  host.stdin?.write(`${line}\n`)
  return JSON.parse((await answers.next()).value)
}

async function sh(script: string): Promise<string> {
  const { code, stdout, stderr } = await machine.run('sh', '-c', `set -e; ${script}`)
  if (code !== 0) throw new TypeError(`${script}: ${stderr}`)
  return stdout
}

/** A namespace that has the router's address on the uplink, and a container's of its network. */
async function makeRouter(uplink: Uplink): Promise<void> {
  const { router, mac, address } = uplink
  const container = router === 'r1' ? '10.1.0.5' : '10.2.0.5'
  const hostEnd = uplink.hostAddress.replace('/30', '')
  await sh(`ip netns add ${router}
    ip link add sw-${router} type bridge
    ip link add up-${router} master sw-${router} type veth peer name eth0 address ${mac} netns ${router}
    ip link set ${uplink.interface.replace('mu', 'mn')} master sw-${router}
    ip link set sw-${router} up; ip link set up-${router} up
    ip -n ${router} link set lo up; ip -n ${router} link set eth0 up
    ip -n ${router} address add ${address} dev eth0
    ip -n ${router} address add ${container}/32 dev lo
    ip -n ${router} neighbor add ${hostEnd} lladdr ${uplink.hostMac} dev eth0
    ip -n ${router} route add default via ${hostEnd} src ${container}
    ip netns exec ${router} nft -f - <<end
    ${translation(container, address.replace('/30', ''))}
end`)
}

/** Stands for the NAT of an uplink's chains: the way out, and all that is published. */
function translation(container: string, link: string): string {
  return `table ip router {
      chain in { type nat hook prerouting priority dstnat
        ip daddr ${link} tcp dport != 80 dnat to ${container}:80
      }
      chain out { type nat hook postrouting priority srcnat
        oifname eth0 ip saddr ${container} snat to ${link}
      }
    }`
}

/** What a web server says when asked from a namespace, or from the machine itself. */
async function fetchFrom(from: string, address: string, port: number): Promise<string> {
  const { stdout } =
    from === 'machine'
      ? await machine.fetch(address, port)
      : await machine.fetch(address, port, 'ip', 'netns', 'exec', from)
  return stdout.trim()
}

async function reaches(from: string, address: string, ...options: string[]): Promise<boolean> {
  const ping = ['busybox', 'ping', '-c', '1', '-W', '1', ...options, address]
  return (await machine.run('ip', 'netns', 'exec', from, ...ping)).code === 0
}

test.serial('the way out is translated', async (t) => {
  t.true(await reaches('r1', outsideAddress))
  t.true(await reaches('r2', outsideAddress))
})

test.serial('the host reaches containers', async (t) => {
  t.is(await fetchFrom('machine', '10.1.0.5', 80), 'web')
})

test.serial('published ports are reached from everywhere', async (t) => {
  for (const from of ['outside', 'machine', 'r2'])
    t.is(await fetchFrom(from, hostAddress, 8080), 'web', from)
  t.is(await fetchFrom('machine', '127.0.0.1', 8080), 'web')
  t.is(await fetchFrom('machine', '127.0.0.1', 8081), 'web')
  t.is(await fetchFrom('outside', hostAddress, 8081), '')
})

test.serial('routers do not reach each other through the host', async (t) => {
  t.false(await reaches('r1', '10.2.0.5'))
  t.is(await fetchFrom('r1', '10.2.0.5', 80), '')
})

test.serial('outside does not reach what is not published', async (t) => {
  await sh(`ip -n outside route add 10.0.0.0/8 via ${hostAddress}`)
  t.is(await fetchFrom('outside', '10.1.0.5', 80), '')
  await sh('ip -n outside route del 10.0.0.0/8')
})

test.serial('addresses of others do not get in', async (t) => {
  await sh('ip -n r1 address add 10.66.0.1/32 dev lo')
  t.true(await reaches('r1', outsideAddress, '-I', '10.1.0.5'))
  t.false(await reaches('r1', outsideAddress, '-I', '10.66.0.1'))
  t.false(await reaches('r1', hostAddress, '-I', '10.66.0.1'))
})

test.serial("containers do not reach the host's loopback", async (t) => {
  await sh(`mkdir -p /run/lo; echo secret >/run/lo/index.html
    busybox httpd -p 127.0.0.5:7000 -h /run/lo`)
  const { uplinks } = await ask('settle')
  const via = uplinks.find(({ router }) => router === 'r1')?.hostAddress.replace('/30', '')
  // A container with the right to do so could send this.
  await sh(`ip -n r1 rule add pref 0 to 127.0.0.5 lookup 77; ip -n r1 rule add pref 1 lookup local
    ip -n r1 rule del pref 0 lookup local
    ip -n r1 route add default via ${via} src 10.1.0.5 table 77
    ip netns exec r1 sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet'`)
  t.is(await fetchFrom('r1', '127.0.0.5', 7000), '')
  // It is the guard that keeps it out.
  await sh('nft flush chain inet midonet guard')
  t.is(await fetchFrom('r1', '127.0.0.5', 7000), 'secret')
  await sh('ip -n r1 route flush table 77')
})

test.serial('what others change is put right and told', async (t) => {
  const { uplinks } = await ask('settle')
  const name = uplinks.find(({ router }) => router === 'r1')?.interface ?? ''
  const before = (await ask('settle')).repairs.length
  await sh('nft flush chain inet midonet postrouting')
  await sh(`ip route del 10.1.0.0/24; ip address flush dev ${name}`)
  await sh('echo 0 >/proc/sys/net/ipv4/ip_forward')
  // Two rounds of the periodic check at most.
  await sleep(6_500)
  const repairs = (await ask('settle')).repairs.slice(before).map(({ what }) => what)
  for (const pattern of [
    /table inet midonet/,
    /route to 10\.1\.0\.0\/24/,
    /address 169/,
    /forward/,
  ])
    t.true(
      repairs.some((what) => pattern.test(what)),
      String(pattern),
    )
  t.true(await reaches('r1', outsideAddress))
})

test.serial('all is removed', async (t) => {
  await ask('remove')
  t.notRegex(await sh('ip -o link'), /: m[un][0-9a-f]{11}/)
  t.notRegex(await sh('nft list ruleset'), /midonet/)
})
