/**
 * Machines that are no containers: interfaces of the host that become ports, are given back as they
 * were, and a namespace that joins a Docker network by DHCP.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { startRouter, until } from './bgp-world.ts'
import { Engine, image } from './engine.ts'
import { ensurePackages } from './packages.ts'

let engine: Engine

test.before(async () => {
  ensurePackages(['frr'])
  engine = await Engine.start()
  const made = ['network', 'create', '--driver', 'midonet', '--subnet', '10.5.0.0/24']
  await engine.mustDocker(...made, '--ip-range', '10.5.0.0/25', 'net')
  await engine.sleeper('web', 'net')
})
test.after.always('the machine is taken down', async () => {
  await engine?.close()
})
test.afterEach.always('what the agent said', (t) => {
  if (!t.passed) t.log(engine?.log('node'))
})

async function sh(t: ExecutionContext, script: string): Promise<string> {
  const { code, stdout, stderr } = await engine.run('sh', '-c', script)
  t.is(code, 0, `${script}: ${stderr}`)
  return stdout
}

/** What one command of `midonet cli` prints. */
async function cli(t: ExecutionContext, command: string): Promise<string> {
  const { code, stdout, stderr } = await engine.midonet('cli', '-e', command)
  t.is(code, 0, `${command}: ${stderr}`)
  return stdout.trim()
}

async function bridgeOf(): Promise<string> {
  const [network] = await engine.objects('network')
  return String(network?.bridge)
}

/** All that the kernel tells of an interface, but for counters and times. */
async function portrait(t: ExecutionContext, name: string): Promise<string> {
  return await sh(
    t,
    `ip -j addr show ${name}; tc qdisc show dev ${name}; tc filter show dev ${name} ingress
     cat /proc/sys/net/ipv6/conf/${name}/disable_ipv6; ip -d link show ${name} | grep -o "promisc.*"`,
  )
}

/** A station in namespace `name` with `address`, whose other end is `interface`. */
const station = (name: string, interfaceName: string, address?: string) => `set -e
ip netns add ${name}
ip link add ${interfaceName} type veth peer name eth0 netns ${name}
ip link set ${interfaceName} up
ip link set ${interfaceName} down
ip -n ${name} link set lo up
ip -n ${name} link set eth0 up
${address === undefined ? '' : `ip -n ${name} addr add ${address} dev eth0`}`

const pings = (name: string, address: string) =>
  `ip netns exec ${name} busybox ping -c 3 -w 10 ${address} | grep -o ". packets received"`

test.serial('an interface is taken in, and given back as it was', async (t) => {
  await sh(t, station('s1', 'cable1', '10.5.0.201/24'))
  await sh(t, 'ip link set cable1 alias "to the rack"; ip -6 addr add fd05::1/64 dev cable1 nodad')
  await sh(t, 'ip addr add 192.0.2.9/24 dev cable1')
  const before = await portrait(t, 'cable1')
  const bridge = await bridgeOf()
  const port = await cli(t, `bridge ${bridge} add port`)
  const bind = ['ctl', '--bind-port', port, 'cable1']
  t.is((await engine.midonet(...bind)).code, 0)
  const web = await engine.address('web', 'net')
  t.is(await sh(t, pings('s1', web)), '3 packets received\n')
  t.regex(await sh(t, 'ip link show cable1'), /PROMISC,UP/)
  t.true(await engine.reaches('web', '10.5.0.201'))

  await engine.stopAgent('KILL')
  await engine.startAgent()
  t.is(await sh(t, pings('s1', web)), '3 packets received\n')
  t.is((await engine.midonet('ctl', '--unbind-port', port)).code, 0)
  t.is(await portrait(t, 'cable1'), before)
})

test.serial('a VLAN of an interface, and a TAP device, too', async (t) => {
  await sh(t, station('s2', 'trunk1'))
  await sh(
    t,
    `ip tuntap add mode tap tap9; ip link set tap9 up; ip link set tap9 down
     ip link set trunk1 up
     ip -n s2 link add link eth0 name eth0.7 type vlan id 7 || exit 0
     ip link add link trunk1 name trunk1.7 type vlan id 7
     ip link set trunk1.7 up; ip link set trunk1.7 down
     ip -n s2 addr add 10.5.0.202/24 dev eth0.7; ip -n s2 link set eth0.7 up`,
  )
  // Some kernels have no VLAN interfaces.
  const hasVlans = (await engine.run('ip', 'link', 'show', 'trunk1.7')).code === 0
  const bridge = await bridgeOf()
  const [host] = await engine.objects('host')
  const web = await engine.address('web', 'net')
  for (const name of hasVlans ? ['trunk1.7', 'tap9'] : ['tap9']) {
    const before = await portrait(t, name)
    const port = await cli(t, `bridge ${bridge} add port`)
    await cli(t, `host ${host?.id} add binding port ${port} interface ${name}`)
    if (name !== 'tap9') t.is(await sh(t, pings('s2', web)), '3 packets received\n')
    t.not(await portrait(t, name), before)
    await cli(t, `host ${host?.id} delete binding port ${port}`)
    t.is(await portrait(t, name), before)
  }
})

test.serial('a namespace joins a Docker network by DHCP', async (t) => {
  await sh(t, station('s3', 'cable3'))
  await sh(t, 'ip -n s3 link set eth0 address 02:00:00:00:05:03')
  const bridge = await bridgeOf()
  const [host] = await engine.objects('host')
  const port = await cli(t, `bridge ${bridge} add port`)
  await cli(t, `host ${host?.id} add binding port ${port} interface cable3`)
  const dhcp = await cli(t, `bridge ${bridge} add dhcp subnet 10.5.0.0/24 gw 10.5.0.1`)
  const id = dhcp.split(/\s+/).at(-1) ?? ''
  const [subnet] = await engine.objects('dhcpSubnet')
  t.truthy(id)
  await cli(
    t,
    `bridge ${bridge} dhcp ${subnet?.id} add host name s3 mac 02:00:00:00:05:03 address 10.5.0.203`,
  )
  await sh(
    t,
    `cat >/run/udhcpc.sh <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
ip route add default via $router
END
     chmod +x /run/udhcpc.sh
     ip netns exec s3 busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /run/udhcpc.sh`,
  )
  t.regex(await sh(t, 'ip -n s3 addr show eth0'), /10\.5\.0\.203\/24/)
  t.regex(await sh(t, 'ip -n s3 route'), /default via 10\.5\.0\.1/)
  t.is(await sh(t, pings('s3', await engine.address('web', 'net'))), '3 packets received\n')
  // Out of the uplink of the network's router.
  t.is(await sh(t, pings('s3', '192.0.2.1')), '3 packets received\n')
  const ran = ['run', '--rm', '--network', 'net', image, 'ping', '-c', '2', '-W', '2', '10.5.0.203']
  t.regex(await engine.mustDocker(...ran), /2 packets received/)
})

test.serial('a container behind a router with BGP, from outside and back by SNAT', async (t) => {
  const [outside, web] = ['198.51.100.1', await engine.address('web', 'net')]
  await sh(
    t,
    `set -e
     ip netns add r1; ip -n r1 link set lo up; ip -n r1 addr add ${outside}/24 dev lo
     ip link add gns3out type veth peer name eth0 netns r1
     ip -n r1 addr add 10.0.1.2/30 dev eth0; ip -n r1 link set eth0 up`,
  )
  const peers = [{ address: '10.0.1.1', asn: 100 }]
  const settings = { asn: 3, routerId: outside, networks: ['198.51.100.0/24'], peers }
  await startRouter({ sh: (script) => sh(t, script) }, 'r1', settings)
  const [network] = await engine.objects('network')
  const router = `router ${network?.router}`
  const [host] = await engine.objects('host')
  const port = await cli(t, `${router} add port address 10.0.1.1 net 10.0.1.0/30`)
  await cli(t, `host ${host?.id} add binding port ${port} interface gns3out`)
  await cli(t, `${router} set asn 100`)
  await cli(t, `${router} add bgp-peer asn 3 address 10.0.1.2 connect-retry 1`)
  await cli(t, `${router} add bgp-network net 10.5.0.0/24`)
  const learned = async () => String((await engine.objects('learnedRoute')).length)
  t.is(await until(learned, (text) => text === '1'), '1')
  const told = () => sh(t, 'ip -n r1 route')
  t.regex(
    await until(told, (text) => text.includes('10.5.0.0/24')),
    /10\.5\.0\.0\/24 .*via 10\.0\.1\.1/,
  )
  t.is(await sh(t, pings('r1', `-I ${outside} ${web}`)), '3 packets received\n')
  // The container is nobody outside, but for what SNAT makes of it.
  const [out, back] = [await cli(t, 'chain create name out'), await cli(t, 'chain create name in')]
  await cli(t, `chain ${out} add rule pos 1 flow return-flow type accept`)
  await cli(t, `chain ${out} add rule pos 2 type snat target 10.0.1.1:1024-65535`)
  await cli(t, `chain ${back} add rule dst 10.0.1.1 type rev_snat`)
  await cli(t, `${router} port ${port} set outfilter ${out} infilter ${back}`)
  const seen = sh(t, 'ip netns exec r1 timeout 8 tcpdump -nli eth0 -c 1 icmp 2>/dev/null')
  await sleep(1_000)
  t.true(await engine.reaches('web', outside))
  t.regex(await seen, /10\.0\.1\.1 > 198\.51\.100\.1/)
  t.is(await sh(t, pings('r1', `-I ${outside} ${web}`)), '3 packets received\n')
  await cli(t, `${router} delete port ${port}`)
  const left = () => sh(t, 'ls /run/netns | grep midonet-bgp || true')
  t.is(await until(left, (text) => text === ''), '')
})

test.serial('what is bound is given back by --clean', async (t) => {
  await sh(t, station('s4', 'cable4', '10.5.0.204/24'))
  const before = await portrait(t, 'cable4')
  const port = await cli(t, `bridge ${await bridgeOf()} add port`)
  t.is((await engine.midonet('ctl', '--bind-port', port, 'cable4')).code, 0)
  t.not(await portrait(t, 'cable4'), before)
  await engine.stopAgent()
  t.is((await engine.midonet('agent', '--clean')).code, 0)
  t.is(await portrait(t, 'cable4'), before)
})
