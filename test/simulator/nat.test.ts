/**
 * Translations and rules against what they promise, on random traffic. A failure prints its seed:
 * SEED=<seed> runs it again.
 */
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { formatIp } from '../../packet/address.ts'
import { createKey, type FlowKey, readField, writeField } from '../../packet/flow-key.ts'
import { FlowState } from '../../simulator/flow-state.ts'
import { keyKinds, StateEntry } from '../../simulator/state-entry.ts'
import { fullTag } from '../../simulator/tag.ts'
import { frameOf } from './frame.ts'
import { host, keyOf, put, World } from './world.ts'

function check<T>(t: ExecutionContext, property: fc.IProperty<T>): void {
  const seed = process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }
  const found = fc.check(property, { numRuns: 100, ...seed })
  const fault = found.errorInstance
  const reason = fault instanceof Error ? fault.message : String(fault)
  t.false(found.failed, `SEED=${found.seed} after ${found.numRuns} runs: ${reason}`)
}

const routerMac = 0x0200_0000_00f1
const upMac = 0x0200_0000_00f2
const publicAddress = 0x1400_0001

/** Eight hosts on a bridge, a router, an uplink whose chains hide them behind one address. */
function natWorld(hosts: readonly string[], ports: { first: number; last: number }): World {
  const world = new World()
  const onRouter = { kind: 'router', router: 'r', adminUp: true } as const
  const onBridge = { kind: 'bridge', bridge: 'b', adminUp: true } as const
  const targets = [{ first: '20.0.0.1', last: '20.0.0.1', ports }]
  world.put(
    ...hosts.map((id) => put('host', { id, name: id })),
    put('chain', { id: 'out' }),
    put('chain', { id: 'in' }),
    put('rule', {
      id: 'snat',
      chain: 'out',
      position: 1,
      action: { kind: 'snat', targets, verdict: 'accept' },
    }),
    put('rule', {
      id: 'back',
      chain: 'in',
      position: 1,
      action: { kind: 'reverseSnat', verdict: 'accept' },
    }),
    put('bridge', { id: 'b', adminUp: true }),
    put('router', { id: 'r', adminUp: true }),
    put('port', { ...onBridge, id: 'b-r', peer: 'r-b' }),
    put('port', {
      ...onRouter,
      id: 'r-b',
      peer: 'b-r',
      mac: '02:00:00:00:00:f1',
      addresses: ['10.1.0.1/24'],
    }),
    put('port', {
      ...onRouter,
      id: 'up',
      mac: '02:00:00:00:00:f2',
      addresses: ['20.0.0.1/24'],
      neighbors: [{ address: '20.0.0.2', mac: '02:00:00:00:00:ee' }],
      inboundChain: 'in',
      outboundChain: 'out',
    }),
    put('binding', { id: 'up', host, interface: 'up' }),
    put('route', {
      id: 'default',
      router: 'r',
      src: '0.0.0.0/0',
      dst: '0.0.0.0/0',
      action: 'port',
      port: 'up',
      gateway: '20.0.0.2',
      weight: 1,
    }),
  )
  for (let n = 0; n < 8; n++) {
    const mac = `02:00:00:00:00:0${n + 1}`
    const stations = [{ mac, addresses: [formatIp(0x0a01_0002 + n)] }]
    world.put(
      put('port', { ...onBridge, id: `p${n}`, stations }),
      put('binding', { id: `p${n}`, host, interface: `if${n}` }),
    )
  }
  return world
}

interface Sent {
  readonly from: number
  readonly port: number
  readonly to: number
  readonly protocol: number
}

const sent: fc.Arbitrary<Sent> = fc.record({
  from: fc.nat({ max: 7 }),
  port: fc.integer({ min: 1000, max: 1006 }),
  to: fc.nat({ max: 2 }),
  protocol: fc.constantFrom(6, 17),
})

function outbound({ from, port, to, protocol }: Sent): FlowKey {
  const key = createKey()
  writeField(key, 'ethSrc', 0x0200_0000_0001 + from)
  writeField(key, 'ethDst', routerMac)
  writeField(key, 'ethType', 0x0800)
  writeField(key, 'ipSrc', 0x0a01_0002 + from)
  writeField(key, 'ipDst', 0x0808_0808 + to)
  writeField(key, 'ipProto', protocol)
  writeField(key, 'ipTtl', 64)
  writeField(key, 'tpSrc', port)
  writeField(key, 'tpDst', 53)
  return key
}

/** The answer to a packet that left. */
function answerTo(key: FlowKey): FlowKey {
  const answer = createKey()
  writeField(answer, 'ethSrc', 0x0200_0000_00ee)
  writeField(answer, 'ethDst', upMac)
  writeField(answer, 'ethType', 0x0800)
  writeField(answer, 'ipSrc', readField(key, 'ipDst'))
  writeField(answer, 'ipDst', readField(key, 'ipSrc'))
  writeField(answer, 'ipProto', readField(key, 'ipProto'))
  writeField(answer, 'ipTtl', 64)
  writeField(answer, 'tpSrc', readField(key, 'tpDst'))
  writeField(answer, 'tpDst', readField(key, 'tpSrc'))
  return answer
}

function tupleOf(key: FlowKey): string {
  const fields = ['ipProto', 'ipSrc', 'tpSrc', 'ipDst', 'tpDst'] as const
  return fields.map((name) => readField(key, name)).join()
}

/** A promise was broken. */
class BrokenError extends Error {
  override readonly name = 'BrokenError'
  readonly code = 'BROKEN'
}

test('there and back is where it was, and no two live connections share a tuple', (t) => {
  check(
    t,
    fc.property(
      fc.array(sent, { maxLength: 60, size: 'max' }),
      fc.constantFrom(20, 60_000),
      (packets, count) => {
        const world = natWorld([host], { first: 2000, last: 2000 + count - 1 })
        const owners = new Map<string, string>()
        for (const one of packets) {
          const key = outbound(one)
          const [left] = world.send(`if${one.from}`, frameOf(key))
          if (left === undefined) {
            if (count > 20) throw new BrokenError('dropped though ports were free')
            continue
          }
          const seen = keyOf(left.frame)
          if (readField(seen, 'ipSrc') !== publicAddress) throw new BrokenError('source is shown')
          const owner = owners.get(tupleOf(seen))
          if (owner !== undefined && owner !== tupleOf(key))
            throw new BrokenError(`two share ${tupleOf(seen)}`)
          owners.set(tupleOf(seen), tupleOf(key))
          const [back] = world.send('up', frameOf(answerTo(seen)))
          if (back === undefined) throw new BrokenError('the answer did not come back')
          const came = keyOf(back.frame)
          if (back.interface !== `if${one.from}` || tupleOf(came) !== tupleOf(answerTo(key)))
            throw new BrokenError(`${tupleOf(came)} is no answer to ${tupleOf(key)}`)
        }
      },
    ),
  )
})

test('two hosts that share an address never share a tuple', (t) => {
  check(
    t,
    fc.property(fc.array(sent, { maxLength: 30, size: 'max' }), (packets) => {
      const hosts = [host, 'host-2', 'host-3']
      const taken = hosts.map((own) => {
        const world = natWorld([], { first: 2000, last: 2099 })
        world.forwarder.topology.state.share(hosts, own)
        const left = packets.flatMap((one) => world.send(`if${one.from}`, frameOf(outbound(one))))
        return new Set(left.map(({ frame }) => tupleOf(keyOf(frame))))
      })
      for (const [at, set] of taken.entries())
        for (const tuple of set)
          if (taken.some((other, place) => place !== at && other.has(tuple)))
            throw new BrokenError(`two hosts share ${tuple}`)
    }),
  )
})

test('a packet that is dropped after it was given a port leaves nothing behind', (t) => {
  const world = natWorld([host], { first: 2000, last: 2999 })
  world.put(
    put('rule', { id: 'late', chain: 'out', position: 2, action: { kind: 'drop' } }),
    put('rule', {
      id: 'snat',
      chain: 'out',
      position: 1,
      action: {
        kind: 'snat',
        targets: [{ first: '20.0.0.1', last: '20.0.0.1', ports: { first: 2000, last: 2999 } }],
        verdict: 'continue',
      },
    }),
  )
  t.deepEqual(
    world.send('if0', frameOf(outbound({ from: 0, port: 1000, to: 0, protocol: 17 }))),
    [],
  )
  t.is(world.forwarder.status().connections, 0)
})

test('who found no free port goes on as soon as one is free', (t) => {
  const world = natWorld([host], { first: 2000, last: 2000 })
  const segment = (from: number, flags: number) => {
    const key = outbound({ from, port: 1000, to: 0, protocol: 6 })
    writeField(key, 'tcpFlags', flags)
    return world.send(`if${from}`, frameOf(key)).length
  }
  t.is(segment(0, 0x02), 1)
  t.is(segment(1, 0x02), 0)
  t.is(world.forwarder.status().drops['no free port to translate to'], 1)
  t.is(segment(0, 0x04), 1)
  world.wait(8_000)
  t.is(segment(1, 0x02), 1)
})

test('a false reset does not end a connection whose traffic goes on', (t) => {
  const world = natWorld([host], { first: 2000, last: 2999 })
  const segment = (flags: number) => {
    const key = outbound({ from: 0, port: 2000, to: 0, protocol: 6 })
    writeField(key, 'tcpFlags', flags)
    return world.send('if0', frameOf(key)).length
  }
  segment(0x02)
  segment(0x04)
  world.wait(2_000)
  segment(0x10)
  world.wait(20_000)
  t.is(world.forwarder.status().connections, 1)
})

test('a table that is full says so, counts it, and goes on when there is room', (t) => {
  const state = new FlowState(1)
  const entry = (n: number) =>
    new StateEntry(
      1,
      17,
      { kind: keyKinds.track, src: n, dst: 1, ports: 1 },
      { kind: keyKinds.track, src: 1, dst: n, ports: 1 },
    )
  state.commit([{ kind: 'addState', entry: entry(1) }], 0)
  t.true(state.isFull)
  state.commit([{ kind: 'addState', entry: entry(2) }], 0)
  t.is(state.size, 1)
  const unused = { isUsed: () => false, lastUseMs: () => 0 }
  t.true(state.sweep(10_000_000, unused).includes(fullTag(0)))
  t.is(state.size, 0)
})

test('a forgotten zone leaves no entries', (t) => {
  const state = new FlowState()
  for (let n = 0; n < 100; n++) {
    const [there, back] = [
      { kind: keyKinds.track, src: n, dst: 1, ports: 1 },
      { kind: keyKinds.track, src: 1, dst: n, ports: 1 },
    ] as const
    state.commit([{ kind: 'addState', entry: new StateEntry(1 + (n % 2), 17, there, back) }], 0)
  }
  state.forget(1)
  t.is(state.size, 50)
  t.is(state.find(1, keyKinds.track, 17, 2, 1, 1), undefined)
  t.not(state.find(2, keyKinds.track, 17, 3, 1, 1), undefined)
})
