/** Every command of the original that names a feature we have, with what it prints: `reference.txt`. */
import test from 'ava'
import { check, open, readScript } from './bench.ts'

test('the commands of the original', async (t) => {
  t.timeout(60_000)
  const bench = await open(t)
  await check(t, bench, readScript('reference'))
})

test('what the agents keep is listed, and is theirs to change', async (t) => {
  const bench = await open(t)
  const { store } = bench
  const host = store.list('host')[0]?.id ?? ''
  const port = { adminUp: true } as const
  const [own, mac] = ['02:00:00:00:00:01', '02:00:00:00:00:0a']
  await store.transact((draft) => {
    const interfaces = [
      { name: 'eth0', mac, mtu: 1500, up: true, addresses: ['192.0.2.1/24'] },
      { name: 'eth1', mtu: 9000, up: false, addresses: [] },
    ]
    draft.put('host', { id: host, name: 'h', interfaces })
    draft.put('hostAlive', { id: host, since: new Date().toISOString() })
    draft.put('router', { id: 'r', adminUp: true })
    draft.put('bridge', { id: 'b', adminUp: true })
    draft.put('port', { ...port, id: 'up', kind: 'router', router: 'r', mac: own, addresses: [] })
    draft.put('port', { ...port, id: 'p', kind: 'bridge', bridge: 'b' })
    const learned = { router: 'r', port: 'up', host }
    const dst = '198.51.100.0/24'
    draft.put('learnedRoute', { ...learned, id: 'l', dst, gateway: '10.0.1.2', weight: 20 })
    draft.put('learnedNeighbor', { ...learned, id: 'r_10.0.1.2', address: '10.0.1.2', mac })
    draft.put('learnedMac', { id: `b_0_${mac}`, bridge: 'b', vlan: 0, mac, port: 'p', host })
    draft.put('portActive', { id: 'p', host })
    draft.put('pool', { id: 'pool', space: 'local', subnet: '10.5.0.0/24', references: 1 })
    draft.put('address', { id: 'pool_10.5.0.2', pool: 'pool', address: '10.5.0.2', gateway: false })
  })
  await check(
    t,
    bench,
    `
    > host host0 show alive
    true
    > host host0 show addresses
    192.0.2.1
    > host host0 list interface
    interface iface eth0 status up addresses 192.0.2.1/24 mac M mtu 1500
    interface iface eth1 status down mtu 9000
    > router router0 list route
    route route0 type normal src 0.0.0.0/0 dst 198.51.100.0/24 gw 10.0.1.2 port router0:port0 weight 20 learned true
    > router router0 route route0 show learned
    true
    > router router0 route route0 set weight 1
    error 1: the route is learned: it goes when its peer takes it back
    > router router0 route route0 delete
    error 1: the route is learned: it goes when its peer takes it back
    > router router0 list neighbor
    neighbor address 10.0.1.2 mac M port router0:port0 host host0
    > bridge bridge0 list mac
    mac mac M vlan 0 port bridge0:port0 host host0
    > bridge bridge0 port port0 show active
    true
    > address-pool list
    address-pool address-pool0 space local subnet 10.5.0.0/24 references 1
    > address list
    address address0 pool address-pool0 address 10.5.0.2 gateway false
    > address address0 delete
    error 2: a address cannot be deleted; the agents keep it
    > network list
    > endpoint list
    > uplink list
    `,
  )
})
