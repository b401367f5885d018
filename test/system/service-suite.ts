/**
 * What a bridge and a router do besides forwarding, with real sockets: an agent on some datapath,
 * Linux network namespaces as stations.
 *
 *   a: eth0 ═ va ── bridge red ── router ── bridge blue ── vb ═ eth0 :b
 *                   MTU 1500                MTU 1400
 */
import { writeFileSync } from 'node:fs'
import type { TestFn } from 'ava'
import { type Machine, type Named, Stage } from './stage.ts'

export interface SuiteOptions {
  readonly datapath: string
  readonly open: () => Promise<Machine>
  /** Whether the datapath has meters, and the machine the time for them. */
  readonly meters: boolean
}

/** What udhcpc runs: sets up the interface as it was told, and says what that was. */
const leaseScript = `#!/bin/sh
case "$1" in
  deconfig) ip link set "$interface" up ;;
  nak) echo "nak" ;;
  bound|renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    echo "address $ip/$mask dns $dns mtu $mtu name $hostname routes $staticroutes"
    set -- $staticroutes
    while [ -n "$1" ]; do ip route replace "$1" via "$2" onlink dev "$interface"; shift 2; done ;;
esac
`

const red = { gateway: '10.1.0.1', mac: '02:00:00:00:00:f1' }
const blue = { gateway: '10.2.0.1', mac: '02:00:00:00:00:f2' }
const stations = { a: '02:00:00:00:00:0a', b: '02:00:00:00:00:0b' } as const

class ServiceStage extends Stage {
  constructor(machine: Machine, datapath: string) {
    super(machine, datapath)
    writeFileSync(`${this.dir}/lease`, leaseScript, { mode: 0o755 })
  }

  lease(station: keyof typeof stations): Promise<string> {
    const wants = '-O staticroutes -O mtu -O hostname'
    return this.in(
      station,
      `busybox udhcpc -i eth0 -f -q -n -t 5 -T 1 ${wants} -s ${this.dir}/lease`,
    )
  }
}

async function furnish(stage: ServiceStage): Promise<void> {
  await stage.sh('mkdir -p /run/netns')
  for (const [name, mac] of Object.entries(stations)) {
    await stage.sh(`ip netns add ${name}`)
    await stage.sh(`ip link add v${name} type veth peer name eth0 netns ${name}`)
    await stage.sh(`ip link set v${name} up; ip -n ${name} link set eth0 address ${mac} up`)
    await stage.sh(`ip -n ${name} link set lo up`)
  }
  await stage.startAgent()
  const hosts = await stage.ask('GET', '/v1/host')
  const [host] = Array.isArray(hosts) ? hosts : []
  const operations: unknown[] = []
  const put = (kind: string, value: Named) =>
    operations.push({ op: 'put', kind, id: value.id, value })
  put('router', { id: 'r', adminUp: true })
  for (const [bridge, station, link, mtu] of [
    ['red', 'a', red, 1500],
    ['blue', 'b', blue, 1400],
  ] as const) {
    const net = link.gateway.replace(/1$/, '0/24')
    put('bridge', { id: bridge, adminUp: true, mtu })
    const own = { id: station, kind: 'bridge', bridge, adminUp: true }
    put('port', own)
    put('binding', { id: station, host: host.id, interface: `v${station}` })
    const inner = { id: `${bridge}-r`, kind: 'bridge', bridge, adminUp: true, peer: `r-${bridge}` }
    put('port', inner)
    const outer = { id: `r-${bridge}`, kind: 'router', router: 'r', adminUp: true, peer: inner.id }
    put('port', { ...outer, mac: link.mac, addresses: [`${link.gateway}/24`] })
    const subnet = { id: bridge, bridge, enabled: true, subnet: net, gateway: link.gateway }
    const routes = [{ dst: '10.9.0.0/16', gateway: link.gateway.replace(/1$/, '9') }]
    put('dhcpSubnet', { ...subnet, dnsServers: ['10.1.0.53'], routes })
    const address = link.gateway.replace(/1$/, '10')
    const client = { id: station, subnet: bridge, mac: stations[station], name: `web-${station}` }
    put('dhcpHost', { ...client, address })
  }
  await stage.ask('POST', '/v1/transaction', { operations })
}

/** Declares the tests. */
export function testServices(test: TestFn, { datapath, open, meters }: SuiteOptions): void {
  let stage: ServiceStage
  test.before(async (t) => {
    t.timeout(300_000)
    stage = new ServiceStage(await open(), datapath)
    await furnish(stage)
    stage.spawn('ip', 'netns', 'exec', 'b', 'iperf3', '-s', '-p', '7001')
  })
  test.after.always(async () => {
    await stage?.close()
  })

  test.serial('a real client gets address, routes, name servers, MTU and name', async (t) => {
    t.timeout(120_000)
    t.regex(
      await stage.lease('a'),
      /address 10\.1\.0\.10\/24 dns 10\.1\.0\.53 mtu 1500 name web-a routes 10\.9\.0\.0\/16 10\.1\.0\.9 0\.0\.0\.0\/0 10\.1\.0\.1/,
    )
    t.regex(await stage.lease('b'), /address 10\.2\.0\.10\/24 .* mtu 1400/)
    const routes = await stage.sh('ip -n a route')
    t.regex(routes, /default via 10\.1\.0\.1/)
    t.regex(await stage.in('a', 'busybox ping -c 2 -w 10 10.2.0.10'), /2 packets received/)
  })

  test.serial('a client that nobody knows gets nothing', async (t) => {
    t.timeout(120_000)
    await stage.sh('ip -n b link set eth0 address 02:00:00:00:00:77')
    const said = await stage.in('b', 'busybox udhcpc -i eth0 -f -q -n -t 2 -T 1 -s /bin/true')
    t.regex(said, /no lease, failing/)
    await stage.sh(`ip -n b link set eth0 address ${stations.b}`)
    t.regex(await stage.lease('b'), /address 10\.2\.0\.10/)
  })

  test.serial('path MTU: TCP learns it, whole datagrams are cut, super-packets pass', async (t) => {
    t.timeout(120_000)
    // So that b does not ask for small segments itself.
    await stage.sh('ip -n b link set eth0 mtu 1500')
    const bulk = await stage.in('a', 'iperf3 -J -c 10.2.0.10 -p 7001 -t 1')
    t.true(JSON.parse(bulk).end.sum_received.bytes >= 3_000_000, bulk)
    t.regex(await stage.sh('ip -n a route get 10.2.0.10'), /mtu 1400/)
    await stage.sh('ip -n a route flush cache')
    await stage.in('a', 'echo 1 >/proc/sys/net/ipv4/ip_no_pmtu_disc')
    const pinged = await stage.in('a', 'busybox ping -s 1460 -c 2 -w 10 10.2.0.10')
    t.regex(pinged, /2 packets received/)
    await stage.in('a', 'echo 0 >/proc/sys/net/ipv4/ip_no_pmtu_disc')
    await stage.sh('ip -n b link set eth0 mtu 1400')
  })

  test.serial('a trace request tells what real packets did', async (t) => {
    t.timeout(120_000)
    const condition = { protocol: { is: 1 }, dst: { is: '10.2.0.10/32' } }
    const device = { kind: 'router', id: 'r' }
    const request = { id: 'pings', device, condition, limit: 1, enabled: true }
    await stage.put('traceRequest', request)
    t.regex(await stage.cli('trace', '--list'), /pings: router r, 1 left of 1/)
    await stage.in('a', 'busybox ping -c 1 -w 10 10.2.0.10')
    const told = await stage.cli('trace', '--show', 'pings')
    t.regex(told, /router r: destination is on the link, out of port r-blue/)
    t.regex(await stage.cli('trace', '--list'), /at its limit of 1/)
  })

  if (meters) testLimits(test, () => stage)
}

function testLimits(test: TestFn, stageOf: () => ServiceStage): void {
  test.serial('a limit holds for UDP and TCP, also when the agent was killed', async (t) => {
    t.timeout(120_000)
    const stage = stageOf()
    const limit = { id: 'slow', dscp: 46, bandwidth: { kbps: 50_000 } }
    await stage.put('qosPolicy', limit)
    await stage.ask('PATCH', '/v1/port/a', { qosPolicy: 'slow' })
    const rate = async (options: string): Promise<number> => {
      const output = await stage.in('a', `iperf3 -J -c 10.2.0.10 -p 7001 -t 5 ${options}`)
      const { end } = JSON.parse(output)
      const sum = end.sum_received ?? end.sum
      return (sum.bytes * 8) / sum.seconds / 1e6
    }
    const [udp, tcp] = [await rate('-u -b 150M'), await rate('')]
    await stage.stopAgent('KILL')
    const orphaned = await rate('')
    await stage.startAgent()
    const adopted = await rate('')
    t.log(`Mbit/s of 50: UDP ${udp}, TCP ${tcp}, without agent ${orphaned}, after ${adopted}`)
    // A burst of 300 ms in five seconds makes six parts in a hundred.
    const [least, most] = process.env.MIDONET_LONG === undefined ? [25, 57] : [40, 55]
    for (const one of [udp, tcp, orphaned, adopted]) t.true(one < most, `${one} Mbit/s`)
    t.true(udp > 42, `${udp} Mbit/s`)
    for (const one of [tcp, orphaned, adopted]) t.true(one > least, `${one} Mbit/s`)
  })

  test.serial('packets are marked on their way in', async (t) => {
    const stage = stageOf()
    const chain = 'add chain ip t c { type filter hook input priority 0; }'
    const rules = `add table ip t; ${chain}; add rule ip t c ip dscp ef counter`
    await stage.in('b', `nft "${rules}"`)
    await stage.in('a', 'busybox ping -c 2 -w 10 10.2.0.10')
    t.regex(await stage.in('b', 'nft list ruleset'), /dscp ef counter packets [1-9]/)
  })
}
