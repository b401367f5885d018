/** Chains, rules, groups, VLANs and mirrors, typed: one session a test. */
import test from 'ava'
import { complete } from '../../cli/complete.ts'
import { check, open } from './bench.ts'

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

test('rules that translate a prefix of IPv6 addresses', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > chain create name out
    chain0
    > chain out add rule type prefix_snat from fd00:1::/64 target 2001:db8:1::/64
    chain0:rule0
    > chain out add rule dst !fd00:1::/64 type prefix_dnat action continue from 2001:db8:2::/48 target fd00:2::/48 pos 2
    chain0:rule1
    > chain out list rule
    rule rule0 pos 1 type prefix_snat action accept from fd00:1::/64 target 2001:db8:1::/64
    rule rule1 pos 2 type prefix_dnat action continue from 2001:db8:2::/48 target fd00:2::/48 dst !fd00:1::/64
    > chain out rule rule0 show from
    fd00:1::/64
    > chain out rule rule0 show target
    2001:db8:1::/64
    > chain out list rule type prefix_dnat
    rule rule1 pos 2 type prefix_dnat action continue from 2001:db8:2::/48 target fd00:2::/48 dst !fd00:1::/64
    > chain out rule rule1 set target fd00:3::/48
    > chain out rule rule1 show
    rule rule1 pos 2 type prefix_dnat action continue from 2001:db8:2::/48 target fd00:3::/48 dst !fd00:1::/64
    > chain out rule rule1 set type snat target [2001:db8::1]:1024-65535
    > chain out rule rule1 show
    rule rule1 pos 2 type snat action continue target [2001:db8::1]:1024-65535 dst !fd00:1::/64
    > chain out rule rule1 set type prefix_snat from fd00:2::/48 target 2001:db8:2::/48
    > chain out rule rule1 show
    rule rule1 pos 2 type prefix_snat action continue from fd00:2::/48 target 2001:db8:2::/48 dst !fd00:1::/64
    > chain out rule rule1 set type drop
    > chain out rule rule1 show
    rule rule1 pos 2 type drop dst !fd00:1::/64
    `,
  )
  const [rule] = bench.store.list('rule').filter(({ position }) => position === 1)
  t.deepEqual(rule?.action, {
    kind: 'prefixSnat',
    from: 'fd00:1::/64',
    to: '2001:db8:1::/64',
    verdict: 'accept',
  })
})

test('a prefix that cannot be translated is refused, and nothing made', async (t) => {
  const { run, store } = await open(t)
  await run('chain create name out')
  const syntax = 'error 2: Syntax error at:'
  const missing = 'error 2: Missing arguments, incomplete command'
  const network = '(an IPv6 network such as fd00::/64)'
  for (const [words, said] of [
    ['type prefix_snat', `${missing} (from PREFIX/LENGTH)`],
    ['type prefix_snat from fd00:1::/64', `${missing} (target PREFIX/LENGTH)`],
    ['type prefix_dnat target fd00:1::/64', `${missing} (from PREFIX/LENGTH)`],
    ['type prefix_snat from 10.0.0.0/8 target fd00::/8', `${syntax} from 10.0.0.0/8 ${network}`],
    ['type prefix_snat from fd00::/8 target fd00::1', `${syntax} target fd00::1 ${network}`],
    [
      'type prefix_snat from fd00::/8 target fd00::/129',
      'error 1: rule: action.to: must be an IPv6 network such as fd00::/64',
    ],
    [
      'type snat from fd00:1::/64 target 2001:db8::1',
      `${syntax} from fd00:1::/64 (only of type prefix_snat, prefix_dnat; else src or dst)`,
    ],
    ['type prefix_snat from !fd00:1::/64', `${syntax} !fd00:1::/64`],
    [
      'type prefix_snat from fd00:1::/64 target 2001:db8:1::/48',
      /^error 1: rule .*: fd00:1::\/64 and 2001:db8:1::\/48 differ in length; give equal ones$/,
    ],
    [
      'type prefix_dnat from fd00::/80 target 2001:db8::/80',
      /^error 1: rule .*: fd00::\/80 is longer than 64 bits; give 64 at most$/,
    ],
    [
      'type prefix_snat from fd00:1::1/64 target 2001:db8:1::/64',
      /^error 1: rule .*: fd00:1::1\/64 has host bits; use fd00:1::\/64$/,
    ],
  ] as const) {
    const printed = await run(`chain out add rule ${words}`)
    if (typeof said === 'string') t.is(printed, said, words)
    else t.regex(printed, said, words)
  }
  t.deepEqual(store.list('rule'), [])
})

test('the tabulator knows the words of prefixes', async (t) => {
  const { run, session, client } = await open(t)
  await run('chain create name out')
  const offered = async (line: string) =>
    (await complete(session, client, line))[0].map((word) => word.trim())
  t.deepEqual(await offered('chain chain0 add rule type pre'), ['prefix_dnat', 'prefix_snat'])
  t.deepEqual(
    await offered('chain chain0 add rule type prefix_snat f'),
    ['flow', 'fragment-policy', 'from'].concat(['fail-open']).sort(),
  )
  t.regex(
    await run('help rule'),
    /\n {4}type .*\|prefix_snat\|prefix_dnat\n.*\n.*\n {4}from VALUE\n/,
  )
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

test('VLANs and mirrors', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > bridge create name lan
    bridge0
    > bridge lan add port vlan 7
    bridge0:port0
    > bridge lan add port
    bridge0:port1
    > bridge lan list port
    port port0 device bridge0 state up plugged no vlan 7
    port port1 device bridge0 state up plugged no
    > mirror create name m port bridge0:port0 point post-in-filter to-port bridge0:port1
    mirror0
    > mirror m add match proto udp dst-port !53
    mirror mirror0 proto 17 dst-port !53
    > mirror m add match src 10.0.0.0/8
    mirror mirror0 src 10.0.0.0/8
    > mirror m list match
    match proto 17 dst-port !53
    match src 10.0.0.0/8
    > mirror m delete match proto 17 dst-port !53
    > mirror m list match
    match src 10.0.0.0/8
    > mirror list
    mirror mirror0 name m port bridge0:port0 point post-in-filter to-port bridge0:port1
    > mirror m set bridge lan point out
    > mirror m show
    mirror mirror0 name m bridge bridge0 point out to-port bridge0:port1
    > bridge bridge0 delete port port1
    error 1: port bridge0:port1 is in use by mirror mirror0; delete or change that first
    > mirror m delete
    > bridge lan port port0 clear vlan
    > bridge lan port port0 show
    port port0 device bridge0 state up plugged no
    `,
  )
})

test('rules that redirect', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > bridge create name lan
    bridge0
    > bridge lan add port
    bridge0:port0
    > chain create name svc
    chain0
    > chain svc add rule type redirect target-port bridge0:port0 fail-open true push-vlan 8202
    chain0:rule0
    > chain svc list rule
    rule rule0 pos 1 type redirect target-port bridge0:port0 ingress false fail-open true push-vlan 8202
    > chain svc rule rule0 set ingress true pop-vlan true
    > chain svc rule rule0 clear push-vlan
    > chain svc list rule
    rule rule0 pos 1 type redirect target-port bridge0:port0 ingress true fail-open true pop-vlan true
    > bridge bridge0 delete port port0
    error 1: port bridge0:port0 is in use by rule chain0:rule0; delete or change that first
    > chain svc rule rule0 set type drop
    > chain svc list rule
    rule rule0 pos 1 type drop
    `,
  )
})
