/**
 * Runs in a guest, under flow-load.ts: the forwarding side of an agent on the kernel module, two
 * interfaces on a bridge. With `acl`, all that comes in passes 100 rules that follow connections.
 * Says READY when it forwards, with the milliseconds that taking over took.
 */
import { performance } from 'node:perf_hooks'
import { openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import { Forwarder } from '../../simulator/forwarder.ts'
import { host, put, Topology } from '../simulator/world.ts'
import { aclItems, stationMac, stations } from './flow-world.ts'

const acl = process.argv[2] === 'acl'
const startMs = performance.now()
const datapath = openOvsDatapath()
const forwarder = new Forwarder({ datapath, host, now: () => performance.now(), epoch: 1 })
const onBridge = { kind: 'bridge', bridge: 'br', adminUp: true } as const
const there = Array.from({ length: stations }, (_, index) => ({
  mac: stationMac(0x0b, index),
  addresses: [],
}))
forwarder.apply(
  new Topology().put(
    put('bridge', { id: 'br', adminUp: true }),
    ...(acl ? aclItems() : []),
    // Who sends is learned, as the peer does too.
    put('port', { ...onBridge, id: 'pa', ...(acl ? { inboundChain: 'c' } : {}) }),
    put('port', { ...onBridge, id: 'pb', stations: there }),
    put('binding', { id: 'pa', host, interface: 'mda' }),
    put('binding', { id: 'pb', host, interface: 'mdb' }),
  ),
)
forwarder.adopt()
const { flows } = forwarder.status()
console.log(`READY ${JSON.stringify({ flows, adoptMs: performance.now() - startMs })}`)
for (;;) {
  const handled = forwarder.round(256)
  forwarder.tick()
  if (handled < 256) datapath.wait(Math.max(1, Math.min(500, forwarder.nextTimeoutMs())))
}
