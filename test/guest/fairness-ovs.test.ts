/** Runs in a guest (test/vm): one port sends more new flows than the agent can set up. */
import test from 'ava'
import { openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import { Forwarder } from '../../simulator/forwarder.ts'
import { frame } from '../simulator/frame.ts'
import { host, put, Topology } from '../simulator/world.ts'
import { enterFreshNetwork, TapPort } from '../system/tap-port.ts'

enterFreshNetwork()
const [noisy, quiet, server] = [new TapPort('mda'), new TapPort('mdb'), new TapPort('mdc')]
const datapath = openOvsDatapath()
const forwarder = new Forwarder({ datapath, host, now: () => performance.now(), epoch: 1 })
const onBridge = { kind: 'bridge', bridge: 'br', adminUp: true } as const
const stations = [{ mac: '02:00:00:0b:00:00', addresses: [] }]

forwarder.apply(
  new Topology().put(
    put('bridge', { id: 'br', adminUp: true }),
    put('port', { ...onBridge, id: 'pa' }),
    put('port', { ...onBridge, id: 'pb' }),
    put('port', { ...onBridge, id: 'pc', stations }),
    put('binding', { id: 'pa', host, interface: 'mda' }),
    put('binding', { id: 'pb', host, interface: 'mdb' }),
    put('binding', { id: 'pc', host, interface: 'mdc' }),
  ),
)
forwarder.adopt()

/** To the server; with another source address each time, so that each is a new flow. */
function packetFrom(kind: number, number: number): Uint8Array {
  const bytes = frame(
    'eth(src=02:00:00:00:00:00,dst=02:00:00:0b:00:00),eth_type(0x0800),ipv4(src=10.1.0.1,dst=10.1.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)',
  )
  bytes[8] = kind
  new DataView(bytes.buffer, bytes.byteOffset).setUint16(10, number)
  return bytes
}

test.serial('a port that floods the agent with new flows does not hold up another’s', (t) => {
  t.timeout(300_000)
  // More than its socket holds wait when the first of the other port comes.
  for (let number = 0; number < 12_000; number++) noisy.send(packetFrom(0xaa, number))
  server.take()
  const waited: number[] = []
  for (let number = 0; number < 40; number++) {
    for (let more = 0; more < 64; more++) noisy.send(packetFrom(0xab, number * 64 + more))
    quiet.send(packetFrom(0x01, number))
    waited.push(roundsUntilServed(0x01))
  }
  t.true(Math.max(...waited) <= 2, `${waited} rounds`)
  const { lost, overruns } = forwarder.status()
  t.true(lost > 0, 'the noisy port’s own socket was full')
  t.true((overruns ?? 0) > 0)
})

test.serial('what is left of the flood is worked off, and the port serves again', (t) => {
  t.timeout(300_000)
  while (forwarder.round(256) > 0);
  server.take()
  const { lost } = forwarder.status()
  noisy.send(packetFrom(0xac, 1))
  t.is(roundsUntilServed(0xac), 1)
  t.is(forwarder.status().lost, lost)
})

/** Rounds of a few upcalls until a packet from such an address is at the server. */
function roundsUntilServed(kind: number): number {
  for (let rounds = 1; rounds <= 200; rounds++) {
    forwarder.round(32)
    if (server.take().some((taken) => taken.frame[8] === kind)) return rounds
  }
  return Number.POSITIVE_INFINITY
}
