/** BGP of gateways as far as it is pure: who speaks where, configuration, answers, learned routes. */
import test from 'ava'
import fc from 'fast-check'
import type { KernelRoute } from '../../datapath/link.ts'
import type { PeerConfig, SpeakerConfig } from '../../gateway/bgp/daemon.ts'
import { changesBetween, renderFile } from '../../gateway/bgp/frr-config.ts'
import { readSessions } from '../../gateway/bgp/frr-session.ts'
import { VtyReader } from '../../gateway/bgp/frr-vty.ts'
import { learnedRoutes, writeLearned } from '../../gateway/bgp/learned.ts'
import { planRouters, unspokenPeers } from '../../gateway/bgp/plan.ts'
import { openMemoryStore } from '../../topology/memory.ts'

const peerOf = (address: string, more: Partial<PeerConfig> = {}): PeerConfig => ({
  address,
  asn: 3,
  holdTime: 180,
  keepAlive: 60,
  connectRetry: 10,
  password: undefined,
  bfd: false,
  ...more,
})
const config: SpeakerConfig = {
  asn: 100,
  routerId: '10.0.1.1',
  peers: [peerOf('10.0.1.2')],
  networks: ['172.16.0.0/24'],
  prefixesMax: 80_000,
}

async function edge() {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    draft.put('host', { id: 'h1', name: 'h1' })
    draft.put('host', { id: 'h2', name: 'h2' })
    draft.put('router', { id: 'r', name: 'edge', adminUp: true, asn: 100 })
    for (const n of [1, 2]) {
      const mac = `02:00:00:00:00:0${n}`
      const common = { kind: 'router', router: 'r', adminUp: true, mac } as const
      draft.put('port', { ...common, id: `p${n}`, addresses: [`10.0.${n}.1/30`] })
      draft.put('binding', { id: `p${n}`, host: `h${n}`, interface: `eth${n}` })
      const address = `10.0.${n}.2`
      draft.put('bgpPeer', { id: `peer${n}`, router: 'r', asn: 2 + n, address })
    }
    draft.put('bgpNetwork', { id: 'net', router: 'r', prefix: '172.16.0.0/24' })
  })
  return store
}

test('each host speaks to the peers on the networks of the ports that it has', async (t) => {
  const store = await edge()
  const [router, ...others] = planRouters(store, 'h2')
  t.is(others.length, 0)
  t.like(router, { asn: 100, routerId: '10.0.2.1', networks: ['172.16.0.0/24'] })
  t.deepEqual(
    router?.ports.map(({ id, interface: name, peers }) => [id, name, peers.map((p) => p.address)]),
    [['p2', 'eth2', ['10.0.2.2']]],
  )
  t.deepEqual(planRouters(store, 'h3'), [])
  t.deepEqual(unspokenPeers(store), [])
})

test('a peer that nobody speaks to is told, and why', async (t) => {
  const store = await edge()
  await store.transact((draft) => draft.delete('binding', 'p1'))
  t.regex(unspokenPeers(store)[0] ?? '', /peer 10\.0\.1\.2 of router edge: port p1 is bound to no/)
  await store.transact((draft) => draft.delete('port', 'p1'))
  t.regex(unspokenPeers(store)[0] ?? '', /no port of the router is on its network/)
  await store.transact((draft) => draft.put('router', { id: 'r', adminUp: true }))
  t.is(unspokenPeers(store).length, 2)
  t.regex(unspokenPeers(store)[0] ?? '', /no AS number; set asn/)
  t.deepEqual(planRouters(store, 'h2'), [])
})

test('the configuration that bgpd starts with', (t) => {
  const more = { password: 'secret', bfd: true, holdTime: 9, keepAlive: 3, connectRetry: 1 }
  t.is(
    renderFile({ ...config, peers: [peerOf('10.0.1.2', more)] }),
    `bgp as-path access-list midonet seq 5 permit ^$
router bgp 100
 bgp router-id 10.0.1.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp bestpath as-path multipath-relax
 neighbor 10.0.1.2 remote-as 3
 neighbor 10.0.1.2 advertisement-interval 0
 neighbor 10.0.1.2 timers 3 9
 neighbor 10.0.1.2 timers connect 1
 neighbor 10.0.1.2 password secret
 neighbor 10.0.1.2 bfd
 neighbor 10.0.1.2 bfd profile midonet
 address-family ipv4 unicast
  maximum-paths 16
  maximum-paths ibgp 16
  network 172.16.0.0/24
  neighbor 10.0.1.2 activate
  neighbor 10.0.1.2 filter-list midonet out
  neighbor 10.0.1.2 maximum-prefix 80000 restart 1
 exit-address-family
exit
`,
  )
})

test('a network more or less is a word to the daemon, and nothing is none', (t) => {
  t.deepEqual(changesBetween(config, config), [])
  const networks = ['172.16.1.0/24']
  t.deepEqual(changesBetween(config, { ...config, networks }), [
    'configure terminal',
    'router bgp 100',
    'address-family ipv4 unicast',
    'no network 172.16.0.0/24',
    'network 172.16.1.0/24',
    'exit-address-family',
    'end',
  ])
  t.is(changesBetween(config, { ...config, asn: 101 }), undefined)
})

/** bgpd as far as it keeps what it is told: statements by place and what they are about. */
class ModelDaemon {
  readonly said = new Map<string, string>()
  #place = 'top'

  tell(lines: readonly string[]): void {
    for (const line of lines.map((one) => one.trim())) this.#take(line)
  }

  #take(line: string): void {
    if (line === '' || line === 'configure terminal' || line === 'end' || line === 'exit')
      this.#place = 'top'
    else if (line.startsWith('router bgp')) this.#place = 'router'
    else if (line.startsWith('address-family')) this.#place = 'family'
    else if (line === 'exit-address-family') this.#place = 'router'
    else this.#say(line)
  }

  #say(line: string): void {
    const gone = /^no neighbor (\S+)$/.exec(line)
    if (gone !== null) {
      for (const key of this.said.keys())
        if (key.includes(`neighbor ${gone[1]} `)) this.said.delete(key)
      return
    }
    // What stands as a negation by default.
    const kept = ['ebgp-requires-policy', 'default ipv4-unicast', 'network import-check']
    const isOff = line.startsWith('no ') && !kept.some((one) => line.endsWith(one))
    const text = isOff ? line.slice(3) : line
    const key = `${this.#place} ${subjectOf(text)}`
    if (isOff) this.said.delete(key)
    else this.said.set(key, text)
  }
}

/** A statement without its value. */
function subjectOf(text: string): string {
  const neighbor =
    /^neighbor \S+ (timers connect|timers|remote-as|password|bfd profile|bfd|advertisement-interval|maximum-prefix|activate|filter-list \S+ out)/.exec(
      text,
    )
  if (neighbor !== null) return neighbor[0]
  return text.startsWith('bgp router-id') ? 'bgp router-id' : text
}

const anyPeer = fc.record({
  address: fc.constantFrom('10.0.1.2', '10.0.2.2', '10.0.3.2'),
  asn: fc.constantFrom(3, 4, 100),
  holdTime: fc.constantFrom(9, 180),
  keepAlive: fc.constantFrom(1, 3),
  connectRetry: fc.constantFrom(1, 10),
  password: fc.constantFrom(undefined, 'one', 'two'),
  bfd: fc.boolean(),
})
const anyConfig: fc.Arbitrary<SpeakerConfig> = fc.record({
  asn: fc.constant(100),
  routerId: fc.constantFrom('10.0.1.1', '10.0.2.1'),
  peers: fc.uniqueArray(anyPeer, { maxLength: 3, selector: ({ address }) => address }),
  networks: fc.uniqueArray(fc.constantFrom('10.1.0.0/16', '10.2.0.0/16', '172.16.0.0/24')),
  prefixesMax: fc.constantFrom(100, 200),
})

test('commands lead from any configuration to any other', (t) => {
  fc.assert(
    fc.property(anyConfig, anyConfig, (have, want) => {
      const [led, fresh] = [new ModelDaemon(), new ModelDaemon()]
      led.tell(renderFile(have).split('\n'))
      led.tell(changesBetween(have, want) ?? ['impossible'])
      fresh.tell(renderFile(want).split('\n'))
      t.deepEqual([...led.said].sort(), [...fresh.said].sort())
    }),
  )
})

test('sessions that stay are not touched', (t) => {
  fc.assert(
    fc.property(anyConfig, anyPeer, (one, peer) => {
      const peers = one.peers.filter(({ address }) => address !== peer.address)
      const commands = changesBetween({ ...one, peers }, { ...one, peers: [...peers, peer] }) ?? []
      const about = commands.filter((text) => text.includes('neighbor '))
      return about.every((text) => text.includes(`neighbor ${peer.address} `))
    }),
  )
  t.pass()
})

test('answers of a daemon are found wherever their bytes are cut', (t) => {
  const bytes = Buffer.from('\0\0\0\0{"a":1}\r\n\0\0\0\x01x\0\0\0\x02', 'latin1')
  const answers = [
    { text: '', status: 0 },
    { text: '{"a":1}\r\n', status: 1 },
    { text: 'x', status: 2 },
  ]
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat({ max: bytes.length })), (cuts) => {
      const reader = new VtyReader()
      const at = [0, ...cuts.sort((a, b) => a - b), bytes.length]
      const found = at.flatMap((end, n) => reader.push(bytes.subarray(at[n - 1] ?? 0, end)))
      t.deepEqual(found, answers)
    }),
  )
})

test('sessions are read from what FRR says, and nothing from what it never would', (t) => {
  const peer = { remoteAs: 3, state: 'Established', peerUptimeMsec: 5_000, pfxRcd: 2, pfxSnt: 1 }
  const summary = JSON.stringify({ peers: { '10.0.1.2': peer } })
  const bfd = JSON.stringify([{ peer: '10.0.1.2', status: 'up' }])
  const session = { peer: '10.0.1.2', asn: 3, state: 'Established', forMs: 5_000 }
  const whole = { ...session, received: 2, advertised: 1, bfd: 'up' }
  t.deepEqual(readSessions(summary, bfd), [whole])
  t.deepEqual(readSessions(`{"ipv4Unicast":${summary}}`, ''), [{ ...whole, bfd: undefined }])
  fc.assert(fc.property(fc.json(), fc.json(), (a, b) => Array.isArray(readSessions(a, b))))
  t.deepEqual(readSessions('% no', '% no'), [])
})

const [index1, index2] = [7, 8]
const portOf = (index: number) => ({ [index1]: 'p1', [index2]: 'p2' })[index]
const hop = (gateway: string, index: number, isDown = false) => ({ gateway, index, isDown })

test('each next hop of a learned route is told, but none whose link is down', async (t) => {
  const store = await edge()
  await store.transact((draft) => {
    draft.put('binding', { id: 'p1', host: 'h2', interface: 'eth1' })
    draft.put('bgpPeer', { id: 'peer2', router: 'r', asn: 100, address: '10.0.2.2' })
  })
  const [router] = planRouters(store, 'h2')
  if (router === undefined) return t.fail()
  const kernel: readonly KernelRoute[] = [
    { dst: '20.0.0.0/8', protocol: 186, hops: [hop('10.0.1.2', 7), hop('10.0.2.2', 8)] },
    { dst: '30.0.0.0/8', protocol: 186, hops: [hop('10.0.1.2', 7, true)] },
    { dst: '40.0.0.0/8', protocol: 186, hops: [hop('10.0.9.2', 9)] },
  ]
  const { routes, refused } = learnedRoutes(router, 'h2', kernel, portOf, 10)
  t.is(refused, 0)
  t.deepEqual(
    [...routes.values()].map(({ dst, port, gateway, weight }) => [dst, port, gateway, weight]),
    [
      ['20.0.0.0/8', 'p1', '10.0.1.2', 20],
      ['20.0.0.0/8', 'p2', '10.0.2.2', 200],
    ],
  )
  t.is(learnedRoutes(router, 'h2', kernel, portOf, 1).refused, 1)

  t.is(await writeLearned(store, 'r', 'h2', routes), 2)
  t.is(await writeLearned(store, 'r', 'h2', routes), 0)
  const [first] = routes
  if (first === undefined) return t.fail()
  t.is(await writeLearned(store, 'r', 'h2', new Map([first])), 1)
  t.deepEqual(
    store.list('learnedRoute').map(({ id }) => id),
    [first[0]],
  )
  t.is(await writeLearned(store, 'r', 'h2', new Map()), 1)
})
