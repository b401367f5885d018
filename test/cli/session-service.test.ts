/** What devices offer besides forwarding, typed: one session a test. */
import test from 'ava'
import { check, open } from './bench.ts'

test('load balancers, pools, members, VIPs, health monitors', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > router create name shop
    router0
    > health-monitor create name tcp delay 2
    hm0
    > load-balancer create name front router router0
    lb0
    > load-balancer lb0 create pool name web health-monitor tcp
    lb0:pool0
    > load-balancer lb0 pool pool0 create member address 192.168.100.100 protocol-port 80
    lb0:pool0:pm0
    > load-balancer lb0 pool pool0 member pm0 set weight 3 status INACTIVE
    > load-balancer front pool web list member
    pm pm0 address 192.168.100.100 protocol-port 80 weight 3 state up status INACTIVE
    > load-balancer lb0 pool pool0 create vip address 203.0.113.7 protocol-port 80 persistence SOURCE_IP
    lb0:pool0:vip0
    > load-balancer lb0 pool pool0 list vip
    vip vip0 address 203.0.113.7 protocol-port 80 protocol TCP persistence SOURCE_IP state up
    > load-balancer lb0 pool pool0 create vip address 203.0.113.7 protocol-port 80 protocol UDP
    lb0:pool0:vip1
    > load-balancer list
    lb lb0 name front router router0 state up
    > delete router router0
    > load-balancer list
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
    dhcp-host dhcp-host0 name web address 10.1.0.10 mac M options ntp-server=10.1.0.2,log-server=10.1.0.4
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
    tr tr0 bridge bridge0 limit 5 enabled true proto 17 dst-port 53
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

test('BGP: the walk-through, whose peers and networks are listed, changed and deleted', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > router create name edge
    router0
    > router router0 set asn 100
    > router router0 show
    router router0 name edge state up asn 100
    > router router0 add bgp-peer asn 3 address 192.0.2.1
    router0:peer0
    > router router0 add bgp-network net 172.16.0.0/24
    router0:net0
    > router router0 list bgp-peer
    peer peer0 asn 3 address 192.0.2.1
    > router router0 bgp-peer peer0 set hold-time 9 keep-alive 3 connect-retry 1 bfd true password open-sesame
    > router router0 bgp-peer peer0 show
    peer peer0 asn 3 address 192.0.2.1 keep-alive 3 hold-time 9 connect-retry 1 password (hidden) bfd true
    > router router0 bgp-peer peer0 show asn
    3
    > router router0 add bgp-peer asn 0 address 192.0.2.5
    error 1: bgpPeer: asn: Too small: expected number to be >=1
    > router router0 bgp-peer peer0 clear password
    > router router0 bgp-peer peer0 show password
    > router router0 delete bgp-network net0
    > router router0 list bgp-network
    > router router0 delete bgp-peer peer0
    > router router0 clear asn
    > router router0 show
    router router0 name edge state up
    `,
  )
})
