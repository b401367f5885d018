/** Rules about BGP. */
import test from 'ava'
import { deleteWhole } from '../../topology/cascade.ts'
import { InvalidObjectError } from '../../topology/error.ts'
import { openMemoryStore } from '../../topology/memory.ts'
import type { BgpNetwork, BgpPeer } from '../../topology/model.ts'
import { parseObject } from '../../topology/parse.ts'
import type { Draft } from '../../topology/store.ts'
import { testRefusals } from './refusal.ts'

const peer: BgpPeer = { id: 'peer', router: 'edge', asn: 3, address: '10.0.1.2' }
const network: BgpNetwork = { id: 'net', router: 'edge', prefix: '172.16.0.0/24' }

function putEdge(draft: Draft): void {
  draft.put('router', { id: 'edge', adminUp: true, asn: 100 })
  const port = { kind: 'router', router: 'edge', adminUp: true } as const
  draft.put('port', {
    ...port,
    id: 'edge-up',
    mac: '02:00:00:00:00:09',
    addresses: ['10.0.1.1/30'],
  })
}

function putPeer(draft: Draft, changed: Partial<BgpPeer>): void {
  putEdge(draft)
  draft.put('bgpPeer', { ...peer, ...changed })
}

testRefusals([
  [
    'a BGP peer needs its router',
    (d) => putPeer(d, { router: 'none' }),
    'MISSING_REFERENCE',
    /bgpPeer peer: router: there is no router none/,
  ],
  [
    'a router has a peer once',
    (d) => {
      putPeer(d, {})
      d.put('bgpPeer', { ...peer, id: 'again' })
    },
    'CONFLICT',
    /router edge has peer 10\.0\.1\.2/,
  ],
  [
    'the router itself is no peer of it',
    (d) => putPeer(d, { address: '10.0.1.1' }),
    'INVALID',
    /bgpPeer peer: address: 10\.0\.1\.1 is the router's own/,
  ],
  [
    'a group is no peer',
    (d) => putPeer(d, { address: '224.0.0.5' }),
    'INVALID',
    /bgpPeer peer: address: 224\.0\.0\.5 is no station's/,
  ],
  [
    'words come three times in a hold time',
    (d) => putPeer(d, { holdTime: 9, keepAlive: 4 }),
    'INVALID',
    /bgpPeer peer: keepAlive: .* use 3/,
  ],
  [
    'an advertised network has no host bits',
    (d) => {
      putEdge(d)
      d.put('bgpNetwork', { ...network, prefix: '172.16.0.1/24' })
    },
    'INVALID',
    /bgpNetwork net: prefix: .* use 172\.16\.0\.0\/24/,
  ],
  [
    'a network is advertised once',
    (d) => {
      putEdge(d)
      d.put('bgpNetwork', network)
      d.put('bgpNetwork', { ...network, id: 'again' })
    },
    'CONFLICT',
    /router edge advertises 172\.16\.0\.0\/24 already/,
  ],
])

test('what does not fit names its field', (t) => {
  const refused = (changed: object) =>
    t.throws(() => parseObject('bgpPeer', { ...peer, ...changed }), {
      instanceOf: InvalidObjectError,
    })?.field
  t.is(refused({ asn: 0 }), 'asn')
  t.is(refused({ asn: 23_456 }), 'asn')
  t.is(refused({ asn: 0xffff_ffff }), 'asn')
  t.is(refused({ address: 'fd00::1' }), 'address')
  t.is(refused({ holdTime: 2 }), 'holdTime')
  t.is(refused({ connectRetry: 0 }), 'connectRetry')
  // Nothing that would be another line of a configuration.
  for (const password of ['', 'a b', 'a\nneighbor 10.0.9.9 remote-as 1', 'a\0', 'x'.repeat(81)])
    t.is(refused({ password }), 'password')
})

test('peers and networks go with their router', async (t) => {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    putPeer(draft, {})
    draft.put('bgpNetwork', network)
  })
  await store.transact((draft) => deleteWhole(draft, 'router', 'edge'))
  t.deepEqual([store.list('bgpPeer'), store.list('bgpNetwork')], [[], []])
})
