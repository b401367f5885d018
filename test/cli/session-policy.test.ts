/** Chains, rules, groups, VLANs and mirrors, typed: one session a test. */
import test from 'ava'
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
