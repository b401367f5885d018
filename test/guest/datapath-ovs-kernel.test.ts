/** Runs in a guest (test/vm): what is peculiar to the kernel module. */
import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import { DatapathError } from '../../datapath/datapath.ts'
import { Module, removeDatapath } from '../../datapath/ovs/module.ts'
import { type OvsDatapath, openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import { arena, write } from '../../datapath/syscall.ts'
import type { Action } from '../../packet/action.ts'
import { applyActions } from '../../packet/apply.ts'
import { createKey } from '../../packet/flow-key.ts'
import { formatActions } from '../../packet/text.ts'
import { exact } from '../datapath/net.ts'
import { anyAction, anySoundFrame, mutated } from '../packet/arbitrary.ts'
import { captures, fromHex, hexOf } from '../packet/captures.ts'
import { enterFreshNetwork, TapPort } from '../system/tap-port.ts'

const hello = fromHex(captures.udpHello)
const seed = Number(process.env.SEED ?? randomInt(2 ** 31))
const runs = Number(process.env.RUNS ?? 300)

enterFreshNetwork()
const [tapA, tapB] = [new TapPort('mda'), new TapPort('mdb')]
let current: OvsDatapath = openOvsDatapath()

/** A fresh start with two ports. */
function connect(): { readonly a: number; readonly b: number } {
  for (const { id } of [...current.flows()]) current.remove(id)
  for (const { number } of current.ports()) current.removePort(number)
  const ports = { a: current.addPort('mda').number, b: current.addPort('mdb').number }
  while (current.receive(1000, () => {}) > 0);
  for (const tap of [tapA, tapB]) tap.take()
  return ports
}

test.serial('a noisy port fills its own socket; the others’ packets come soon', (t) => {
  t.timeout(120_000)
  const { a, b } = connect()
  const before = current.counters()
  const count = 20_000
  for (let sent = 0; sent < count; sent++) tapA.send(hello)
  tapB.send(hello)
  const order: number[] = []
  const see = ({ key }: { readonly key: Uint32Array }): void => {
    order.push(key[0] ?? 0)
  }
  while (current.receive(256, see) > 0);
  const { lost, overruns, misses } = current.counters()
  t.true(order.indexOf(b) >= 0 && order.indexOf(b) <= 16, `after ${order.indexOf(b)} others`)
  t.true(order.filter((port) => port === a).length >= 4000)
  t.true(lost > before.lost)
  t.is(misses - before.misses, count + 1)
  t.is(order.length + lost - before.lost, count + 1, 'what is lost is counted')
  t.true((overruns ?? 0) > (before.overruns ?? 0))
  tapA.send(hello)
  t.is(
    current.receive(10, () => {}),
    1,
    'it recovers',
  )
})

test.serial('a second agent in the same network is refused in plain words', (t) => {
  const error = t.throws(() => openOvsDatapath(), { instanceOf: DatapathError })
  t.is(error?.code, 'EBUSY')
  t.regex(error?.message ?? '', /another agent/)
})

test.serial('a packet that an interface does not take keeps no other back', (t) => {
  const { a, b } = connect()
  const long = new Uint8Array(9_100)
  long.set(hello)
  tapA.send(hello)
  const handled = current.receive(10, ({ packet }) => {
    for (const frame of [packet, long, hello])
      current.execute(frame, undefined, a, [{ kind: 'output', port: b }])
    // More than fit into one call, and to two interfaces each.
    for (let count = 0; count < 100; count++)
      current.execute(packet, undefined, 0, [
        { kind: 'output', port: b },
        { kind: 'output', port: a },
      ])
  })
  t.is(handled, 1)
  const [out, back] = [tapB.take(), tapA.take()]
  t.is(out.length, 102)
  t.is(back.length, 100)
  t.true([...out, ...back].every(({ frame }) => hexOf(frame) === hexOf(hello)))
})

test.serial('waiting ends when the wake descriptor is written to, and not before', (t) => {
  connect()
  let start = performance.now()
  current.wait(30)
  t.true(performance.now() - start >= 25)
  const one = arena(4096)
  one.view.setBigUint64(0, 1n, true)
  t.is(write(current.wakeFd, one.address, 8), 8)
  start = performance.now()
  current.wait(10_000)
  t.true(performance.now() - start < 5000)
})

test.serial('a packet of which the kernel knows more is handed over as such', (t) => {
  connect()
  const keyComplete = (frame: Uint8Array): boolean | undefined => {
    let seen: boolean | undefined
    tapA.send(frame)
    current.receive(10, (upcall) => {
      seen = upcall.keyComplete
    })
    return seen
  }
  t.true(keyComplete(hello))
  const twice = applyActions(hello, [
    { kind: 'pushVlan', tci: 5 },
    { kind: 'pushVlan', tci: 6 },
    { kind: 'output', port: 1 },
  ])[0]
  t.false(keyComplete(twice?.frame ?? hello))
  const tcp = fromHex(captures.tcpSyn)
  t.true(keyComplete(tcp))
  t.false(keyComplete(tcp.subarray(0, tcp.length - 1)), 'of cut options the kernel says nothing')
})

test.serial('flows and ports outlive the datapath’s owner; strange flows do not', (t) => {
  const { a, b } = connect()
  const id = current.install(exact(hello, a), [{ kind: 'output', port: b }])
  tapA.send(hello)
  current.close()
  tapA.send(hello)
  current = openOvsDatapath()
  t.is(current.stats(id)?.packets, 2)
  tapB.take()
  current.close()
  // Gone with its flows, as when somebody else cleans up.
  t.true(removeDatapath('midonet'))
  t.false(removeDatapath('midonet'))
  current = openOvsDatapath()
  t.deepEqual([...current.flows()], [])
  t.deepEqual(current.ports(), [])
})

test.serial('an internal port is an interface of the host’s own, and goes with its vport', (t) => {
  const { a } = connect()
  const received = (): number => {
    const { stdout } = spawnSync('ip', ['-s', '-j', 'link', 'show', 'mdi'], { encoding: 'utf8' })
    return JSON.parse(stdout)[0].stats64.rx.packets
  }
  const inside = current.addInternalPort('mdi')
  t.is(current.addInternalPort('mdi').number, inside.number)
  t.is(t.throws(() => current.addInternalPort('lo'), { instanceOf: DatapathError })?.code, 'EEXIST')
  current.install(exact(hello, a), [{ kind: 'output', port: inside.number }])
  const before = received()
  tapA.send(hello)
  t.is(received() - before, 1)
  current.close()
  current = openOvsDatapath()
  t.true(current.ports().some(({ number, name }) => number === inside.number && name === 'mdi'))
  current.removePort(inside.number)
  t.is(spawnSync('ip', ['link', 'show', 'mdi']).status, 1)
  t.false(current.ports().some(({ name }) => name === 'mdi'))
})

test.serial('ten thousand flows are taken over', (t) => {
  t.timeout(300_000)
  const { a, b } = connect()
  const key = createKey()
  const mask = createKey()
  mask[0] = 0xffff_ffff
  mask[4] = 0xffff_ffff
  key[0] = a
  for (let index = 0; index < 10_000; index++) {
    key[4] = index
    current.install({ key, mask }, [{ kind: 'output', port: b }])
  }
  current.close()
  current = openOvsDatapath()
  const found = [...current.flows()].length
  t.is(found, 10_000)
  t.is(current.counters().masks, 1)
  const all = [...current.flows()].map(({ id }) => id)
  t.true(all.every((id) => current.stats(id) !== undefined))
})

test.serial('a datapath’s flows removed behind our back are known to be gone', (t) => {
  const { a, b } = connect()
  const id = current.install(exact(hello, a), [{ kind: 'output', port: b }])
  const module = new Module('midonet')
  for (const flow of module.flows()) module.removeFlow(flow)
  module.close()
  t.is(current.stats(id), undefined)
  current.remove(id)
  t.is(current.counters().flows, 0)
})

test.serial('that some of many flows were removed behind our back is known', (t) => {
  const { a, b } = connect()
  const ids = [1, 2, 3, 4].map((port) => {
    const match = exact(hello, a)
    match.key[18] = port
    return current.install(match, [{ kind: 'output', port: b }])
  })
  const module = new Module('midonet')
  const [first] = module.flows()
  if (first !== undefined) module.removeFlow(first)
  module.close()
  const told = current.statsOf(ids)
  t.is(told.filter((stats) => stats === undefined).length, 1)
  t.is(current.counters().flows, 3)
  for (const id of ids) current.remove(id)
})

/** The kernel drops what is cut off behind a tag before anybody sees it. */
const anyFrame = fc
  .oneof(anySoundFrame, mutated, fc.uint8Array({ minLength: 20, maxLength: 90 }))
  .filter((frame) => frame.length >= 20)

test.serial(
  `a flow for a whole key matches its packet, and its packet only (SEED=${seed})`,
  (t) => {
    t.timeout(600_000)
    const { a, b } = connect()
    let complete = 0
    fc.assert(
      fc.property(anyFrame, (frame) => {
        let isComplete = false
        tapA.send(frame)
        current.receive(10, (upcall) => {
          isComplete = upcall.keyComplete
        })
        tapB.take()
        if (!isComplete) return true
        complete++
        const id = current.install(exact(frame, a), [{ kind: 'output', port: b }])
        tapA.send(frame)
        const got = tapB.take().map((sent) => hexOf(sent.frame))
        current.receive(10, () => {})
        current.remove(id)
        if (got.join() !== hexOf(frame)) t.log(`${hexOf(frame)} became ${got.join()}`)
        return got.join() === hexOf(frame)
      }),
      { seed, numRuns: runs },
    )
    t.true(complete > runs / 4, `${complete} of ${runs}`)
  },
)

const rewrites = anyAction.filter(
  ({ kind }) => !['output', 'userspace', 'setTunnel'].includes(kind),
)

test.serial(`packets are changed as applyActions does (SEED=${seed})`, (t) => {
  t.timeout(600_000)
  const { a, b } = connect()
  fc.assert(
    fc.property(anySoundFrame, fc.array(rewrites, { maxLength: 5 }), (frame, changes) => {
      const actions: Action[] = [...changes, { kind: 'output', port: b }]
      const expected = applyActions(frame, actions)
        .map((out) => hexOf(out.frame))
        .join()
      let isComplete = false
      tapA.send(frame)
      current.receive(10, (upcall) => {
        isComplete = upcall.keyComplete
      })
      if (!isComplete) return true
      const id = current.install(exact(frame, a), actions)
      tapA.send(frame)
      current.receive(10, () => {})
      const flow = tapB.take().map((sent) => hexOf(sent.frame))
      current.execute(frame, undefined, a, actions)
      const executed = tapB.take().map((sent) => hexOf(sent.frame))
      current.remove(id)
      const same = flow.join() === expected && executed.join() === expected
      if (!same) t.log([hexOf(frame), formatActions(actions), expected, flow, executed].join('\n'))
      return same
    }),
    { seed, numRuns: runs },
  )
  t.pass()
})
