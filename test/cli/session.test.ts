/** Commands and what they print and do, as documentation: one session a test. */
import test, { type ExecutionContext } from 'ava'
import { Client } from '../../cli/client.ts'
import { complete } from '../../cli/complete.ts'
import { CliError } from '../../cli/error.ts'
import { Session } from '../../cli/session.ts'
import type { Store } from '../../topology/store.ts'
import { startAgent } from '../driver/agent.ts'

interface Bench {
  readonly store: Store
  readonly session: Session
  readonly client: Client
  /** What a line prints, joined; an error's text after `error: `. */
  run(line: string): Promise<string>
}

async function open(t: ExecutionContext, aliases = true): Promise<Bench> {
  const { apiSocketPath: socketPath, store } = await startAgent(t)
  const client = new Client({ socketPath })
  t.teardown(() => client.close())
  const session = new Session({ client, aliases, json: false })
  const run = async (line: string) => {
    try {
      return (await session.run(line)).lines.join('\n')
    } catch (error) {
      if (error instanceof CliError) return `error ${error.status}: ${error.message}`
      throw error
    }
  }
  return { store, session, client, run }
}

/** Lines of `> command` and what it prints. */
async function check(t: ExecutionContext, bench: Bench, script: string): Promise<void> {
  const blocks = script
    .trim()
    .split(/^\s*> /m)
    .slice(1)
  for (const block of blocks) {
    const [command = '', ...expected] = block.split('\n').map((line) => line.trim())
    const printed = (await bench.run(command)).replaceAll(/mac 02(:[0-9a-f]{2}){5}/g, 'mac M')
    t.is(printed, expected.filter(Boolean).join('\n'), command)
  }
}

test('the walk through a router with an uplink', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > router create name "edge router"
    router0
    > router router0 add port address 10.1.0.1 net 10.1.0.0/24
    router0:port0
    > router router0 add port addresses 10.2.0.1/24,10.3.0.1/24
    router0:port1
    > host list
    host host0 name ${bench.store.list('host')[0]?.name}
    > host host0 add binding port router0:port0 interface gns3out
    host host0 interface gns3out port router0:port0
    > host host0 list binding
    binding host host0 interface gns3out port router0:port0
    > router router0 list port
    port port0 device router0 state up plugged yes mac M address 10.1.0.1 net 10.1.0.0/24
    port port1 device router0 state up plugged no mac M addresses 10.2.0.1/24,10.3.0.1/24
    > router "edge router" show name
    edge router
    > list router name "edge router"
    router router0 name "edge router" state up
    > router router0 set state down name core
    > router router0 show
    router router0 name core state down
    > router router0 clear name
    > show router router0
    router router0 state down
    > host host0 delete binding port router0:port0
    > delete router router0
    > router list
    `,
  )
  t.deepEqual(bench.store.list('port'), [])
})

test('links are made and undone on both sides', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > router create
    router0
    > bridge create name lan
    bridge0
    > bridge create
    bridge1
    > router router0 add port address 10.1.0.1/24
    router0:port0
    > bridge lan add port
    bridge0:port0
    > bridge bridge1 port add
    bridge1:port0
    > router router0 port port0 set peer bridge0:port0
    > bridge bridge0 port list
    port port0 device bridge0 state up plugged no peer router0:port0
    > port router0:port0 set peer bridge1:port0
    > port list
    port port0 device bridge0 state up plugged no
    port port0 device bridge1 state up plugged no peer router0:port0
    port port0 device router0 state up plugged no peer bridge1:port0 mac M address 10.1.0.1 net 10.1.0.0/24
    > port router0:port0 clear peer
    > bridge bridge1 port port0 show peer
    > router router0 add route dst 203.0.113.2/32 src 0.0.0.0/0 type normal port router0:port0
    router0:route0
    > router router0 route route0 show
    route route0 type normal src 0.0.0.0/0 dst 203.0.113.2/32 port router0:port0 weight 100
    > router router0 delete route route0
    > router router0 list route
    > router router0 port port0 set addresses 10.1.0.1/24,fd00:1::1/64
    > router router0 port port0 show addresses
    10.1.0.1/24,fd00:1::1/64
    > router router0 add route dst 2001:db8::/32 port router0:port0 gw fd00:1::2
    router0:route1
    > router router0 list route
    route route1 type normal src ::/0 dst 2001:db8::/32 gw fd00:1::2 port router0:port0 weight 100
    `,
  )
})

test('rules: the words of the original, positions, inversion, translation', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > chain create name pre
    chain0
    > chain create name post
    chain1
    > router create name r infilter chain0
    router0
    > router router0 add port address 10.1.0.1 net 10.1.0.0/24
    router0:port0
    > chain chain0 add rule ethertype 2048 src !10.0.0.0/16 type drop
    chain0:rule0
    > chain chain0 add rule dst 198.51.100.4 in-ports router0:port0 pos 1 type dnat action accept target 10.100.1.150
    error 1: rule: condition.dst.is: must be an IPv4 or IPv6 network such as 10.1.0.0/24 or fd00::/64
    > chain chain0 add rule dst 198.51.100.4/32 in-ports router0:port0 pos 1 type dnat action accept target 10.100.1.150
    chain0:rule1
    > chain chain0 add rule proto tcp dst-port 80-90 type jump jump-to chain1 pos 9
    chain0:rule2
    > chain pre list rule
    rule rule1 pos 1 type dnat action accept target 10.100.1.150 dst 198.51.100.4/32 in-ports router0:port0
    rule rule0 pos 2 type drop ethertype 2048 src !10.0.0.0/16
    rule rule2 pos 9 type jump jump-to chain1 proto 6 dst-port 80-90
    > chain chain1 add rule type snat action continue target 192.0.2.1-192.0.2.9:1024-65535
    chain1:rule0
    > chain chain1 rule rule0 set type rev_snat flow return-flow
    > chain chain1 rule rule0 show
    rule rule0 pos 1 type rev_snat action continue flow return-flow
    > chain chain1 rule rule0 set hw-src 02:00:00:00:00:0a hw-src-mask ff:ff:ff:00:00:00 no-vlan true
    > chain chain1 rule rule0 show
    rule rule0 pos 1 type rev_snat action continue hw-src 02:00:00:00:00:0a hw-src-mask ff:ff:ff:00:00:00 flow return-flow vlan none
    > chain chain1 rule rule0 clear hw-src vlan flow
    > chain chain1 rule rule0 show
    rule rule0 pos 1 type rev_snat action continue
    > chain chain1 add rule type snat target 192.0.2.1
    chain1:rule1
    > delete chain chain0
    error 1: chain chain0 is in use by router router0; delete or change that first
    `,
  )
})

test('what cannot be is said, with the status a script needs', async (t) => {
  const { run } = await open(t)
  await run('router create name r')
  for (const [line, said] of [
    ['router router7 show', 'error 1: there is no router router7'],
    ['router r show colour', 'error 2: Syntax error at: colour'],
    ['router r set state sideways', 'error 2: Syntax error at: state sideways (one of up, down)'],
    ['router r set', 'error 2: Missing arguments, incomplete command (ATTRIBUTE VALUE)'],
    ['frobnicate', 'error 2: Syntax error at: frobnicate'],
    ['router', 'error 2: Missing arguments, incomplete command'],
    ['router create name "r', 'error 2: Syntax error at: " (a quote has no end)'],
    ['chain create name c extra', 'error 2: Syntax error at: extra'],
    ['host create', 'error 2: a host cannot be made here (see help)'],
  ] as const) {
    const printed = await run(line)
    t.true(printed.startsWith(said), `${line}: ${printed}`)
  }
})

test('groups hold ports and addresses', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > bridge create
    bridge0
    > bridge bridge0 add port
    bridge0:port0
    > port-group create name SPG stateful true
    pgroup0
    > port-group pgroup0 add member port bridge0:port0
    port-group pgroup0 port bridge0:port0
    > port-group SPG list member
    member port bridge0:port0
    > port-group SPG delete member port bridge0:port0
    > port-group SPG list member
    > ip-address-group create name web
    ipg0
    > ip-address-group ipg0 add ip address 10.0.0.1
    ip-address-group ipg0 address 10.0.0.1
    > ip-address-group web list ip
    ip address 10.0.0.1
    > ip-address-group web delete ip address 10.0.0.1
    > ip-address-group web list ip
    `,
  )
})

test('DHCP, marks and limits, traces, zones', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > bridge create name lan mtu 1400
    bridge0
    > bridge bridge0 add dhcp subnet 10.1.0.0/24 gw 10.1.0.1 dns-servers 10.1.0.2,10.1.0.3 opt121-routes 10.9.0.0/16:10.1.0.9
    bridge0:dhcp0
    > bridge bridge0 dhcp dhcp0 add host name web mac 02:00:00:00:00:0a address 10.1.0.10 options ntp-server=10.1.0.2,log-server=10.1.0.4
    bridge0:dhcp0:dhcp-host0
    > bridge lan dhcp dhcp0 list host
    host dhcp-host0 name web address 10.1.0.10 mac M options ntp-server=10.1.0.2,log-server=10.1.0.4
    > bridge lan dhcp dhcp0 set enabled false lease 3600
    > bridge lan list dhcp
    dhcp dhcp0 subnet 10.1.0.0/24 gw 10.1.0.1 dns-servers 10.1.0.2,10.1.0.3 opt121-routes 10.9.0.0/16:10.1.0.9 enabled false lease 3600
    > qos-policy create name gold
    qos-policy0
    > qos-policy gold add dscp-rule dscp-mark 10
    qos-policy qos-policy0 dscp-mark 10
    > qos-policy gold add bw-limit-rule max-kbps 5000 max-burst-kb 500
    qos-policy qos-policy0 max-kbps 5000 max-burst-kb 500
    > qos-policy gold list bw-limit-rule
    bw-limit-rule max-kbps 5000 max-burst-kb 500
    > qos-policy gold delete dscp-rule dscp-mark 10
    > qos-policy gold list dscp-rule
    > bridge lan set qos-policy gold
    > bridge lan show
    bridge bridge0 name lan state up qos-policy qos-policy0 mtu 1400
    > tracerequest create bridge lan proto udp dst-port 53 limit 5
    tr0
    > tracerequest list
    tracerequest tr0 bridge bridge0 limit 5 enabled true proto 17 dst-port 53
    > tracerequest tr0 set enabled false
    > tunnel-zone create name z type vxlan
    tzone0
    > tunnel-zone z add member host host0 address 192.0.2.1
    tunnel-zone tzone0 host host0 address 192.0.2.1
    > tunnel-zone z list member
    member tunnel-zone tzone0 host host0 address 192.0.2.1
    > tunnel-zone z delete member host host0
    > delete bridge lan
    error 1: bridge bridge0 is in use by traceRequest tr0; delete or change that first
    `,
  )
})

test('ids instead of aliases, for scripts', async (t) => {
  const { run, store } = await open(t, false)
  const id = await run('router create name r')
  t.is(id, store.list('router')[0]?.id ?? '')
  t.is(await run('router list'), `router ${id} name r state up`)
  t.is(await run(`router ${id} show name`), 'r')
  // Aliases are understood all the same.
  t.is(await run('router router0 show name'), 'r')
})

test('the tabulator knows verbs, collections, objects, attributes and values', async (t) => {
  const { run, session, client } = await open(t)
  await run('router create name r')
  await run('router router0 add port address 10.1.0.1/24')
  const offered = async (line: string) =>
    (await complete(session, client, line))[0].map((word) => word.trim())
  t.true((await offered('')).includes('router'))
  t.deepEqual(await offered('rou'), ['router'])
  t.deepEqual(await offered('router router'), ['router0'])
  t.true((await offered('router router0 ')).includes('port'))
  t.deepEqual(await offered('router router0 set st'), ['state'])
  t.deepEqual(await offered('router router0 set state '), ['down', 'up'])
  t.deepEqual(await offered('port list pe'), ['peer'])
  t.deepEqual(await offered('router router0 port port0 set peer '), ['router0:port0'])
  t.deepEqual(await offered('router router0 nonsense '), [])
})
