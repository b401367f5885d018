/**
 * The walk-through's world: a virtual router with two uplinks to real routers of other networks.
 *
 *   a ── bridge ── router (AS 100) ┬ gns3out ═ gns3in ─ br0 ─ tap0 ═ r1 (AS 3) ┐
 *   172.16.0.2       10.0.1.1, 10.0.2.1 └ up2out ═══════════ up2in ═ r2 (AS 4) ┴ lan ── o
 *                                                                              198.51.100.9
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Stage } from './stage.ts'

interface Peer {
  readonly address: string
  readonly asn: number
  readonly more?: readonly string[]
}

/** An FRR of a namespace, as somebody else would run it. */
export async function startRouter(
  stage: Pick<Stage, 'sh'>,
  name: string,
  settings: {
    readonly asn: number
    readonly routerId: string
    readonly peers: readonly Peer[]
    readonly networks: readonly string[]
  },
): Promise<string> {
  const { asn, routerId, peers, networks } = settings
  const bgpd = [
    `router bgp ${asn}`,
    ` bgp router-id ${routerId}`,
    ' no bgp ebgp-requires-policy',
    ' no bgp network import-check',
    ...peers.flatMap(({ address, asn: its, more = [] }) => [
      ` neighbor ${address} remote-as ${its}`,
      ` neighbor ${address} timers connect 1`,
      ` neighbor ${address} advertisement-interval 0`,
      ...more.map((text) => ` neighbor ${address} ${text}`),
    ]),
    ' address-family ipv4 unicast',
    '  redistribute kernel',
    '  redistribute static',
    ...networks.map((prefix) => `  network ${prefix}`),
    ' exit-address-family',
  ]
  const bfdd = ['bfd', ' profile fast', '  receive-interval 200', '  transmit-interval 200']
  const dir = `/run/router-${name}`
  const start = (daemon: string, ...more: string[]) =>
    `ip netns exec ${name} /usr/lib/frr/${daemon} -d -u frr -g frr -P 0 -f ${dir}/${daemon}.conf ` +
    `-i ${dir}/${daemon}.pid -z ${dir}/zserv.api --vty_socket ${dir} ${more.join(' ')}`
  return await stage.sh(`set -e
mkdir -p ${dir}
cat >${dir}/bgpd.conf <<END
${bgpd.join('\n')}
END
cat >${dir}/bfdd.conf <<END
${bfdd.join('\n')}
END
: >${dir}/zebra.conf
chown -R frr:frr ${dir}
echo 1 >/proc/sys/net/ipv4/ip_forward
ip netns exec ${name} sh -c "echo 1 >/proc/sys/net/ipv4/ip_forward"
ip netns exec ${name} sh -c "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter"
${start('zebra', '-s 90000000')} 2>/dev/null
${start('bgpd')} 2>/dev/null
${start('bfdd', '--bfdctl', `${dir}/bfdd.sock`)} 2>/dev/null
`)
}

/** Namespaces and links, without any agent or router. */
export async function layCables(stage: Stage): Promise<string> {
  return await stage.sh(`set -e
chmod 711 ${stage.dir}
for n in a r1 r2 lan o; do ip netns add $n; ip -n $n link set lo up; done
ip link add va type veth peer name eth0 netns a
ip -n a addr add 172.16.0.2/24 dev eth0
ip -n a link set eth0 up
ip -n a route add default via 172.16.0.1
ip link add name gns3in type veth peer name gns3out
ip link set up gns3in
ip link set up gns3out
ip link add br0 type bridge
ip link set br0 up
ip link add tap0 type veth peer name eth0 netns r1
ip link set tap0 master br0 up
ip link set gns3in master br0
ip -n r1 addr add 10.0.1.2/30 dev eth0
ip -n r1 link set eth0 up
ip link add up2out type veth peer name eth0 netns r2
ip link set up2out up
ip -n r2 addr add 10.0.2.2/30 dev eth0
ip -n r2 link set eth0 up
ip -n lan link add br0 type bridge
ip -n lan link set br0 up
for n in r1:198.51.100.1 r2:198.51.100.2 o:198.51.100.9; do
  ip -n lan link add v\${n%%:*} type veth peer name eth1 netns \${n%%:*}
  ip -n lan link set v\${n%%:*} master br0 up
  ip -n \${n%%:*} addr add \${n#*:}/24 dev eth1
  ip -n \${n%%:*} link set eth1 up
done
ip -n o route add default via 198.51.100.1
`)
}

/** What the two real routers are like: each tells the network that both are on. */
export async function startRouters(
  stage: Stage,
  more: Readonly<Record<'r1' | 'r2', readonly string[]>> = { r1: [], r2: [] },
): Promise<string> {
  const networks = ['198.51.100.0/24']
  const r1 = await startRouter(stage, 'r1', {
    asn: 3,
    routerId: '198.51.100.1',
    networks,
    peers: [
      { address: '10.0.1.1', asn: 100, more: more.r1 },
      { address: '198.51.100.2', asn: 4 },
    ],
  })
  const r2 = await startRouter(stage, 'r2', {
    asn: 4,
    routerId: '198.51.100.2',
    networks,
    peers: [
      { address: '10.0.2.1', asn: 100, more: more.r2 },
      { address: '198.51.100.1', asn: 3 },
    ],
  })
  return r1 + r2
}

/** Waits until `look` gives what `isGood` takes; gives the last one seen. */
export async function until(
  look: () => Promise<string>,
  isGood: (seen: string) => boolean,
  withinMs = 15_000,
): Promise<string> {
  const end = performance.now() + withinMs
  for (;;) {
    const seen = await look()
    if (isGood(seen) || performance.now() > end) return seen
    await sleep(50)
  }
}
