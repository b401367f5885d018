/** What hosts tell each other of flow state, in whatever order they hear it. */
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { FlowState, flagsOf } from '../../simulator/flow-state.ts'
import type { Zone } from '../../simulator/passage.ts'
import { Memberships } from '../../simulator/policy.ts'
import { keyKinds, StateEntry, zoneOf } from '../../simulator/state-entry.ts'
import { mergeEntry } from '../../simulator/state-merge.ts'
import type { EntryRecord } from '../../simulator/state-message.ts'
import { entryOf, recordOf } from '../../simulator/state-record.ts'
import { Zones, zoneName } from '../../simulator/zones.ts'

class Host {
  readonly state = new FlowState()
  readonly zone: Zone
  readonly name: string

  /** Zones have other numbers on each host. */
  constructor(name: string, zonesBefore = 0) {
    this.name = name
    const zones = new Zones(this.state, new Memberships())
    for (let at = 0; at < zonesBefore; at++) zones.of('bridge', `b${at}`)
    this.zone = zones.of('router', 'r')
  }

  add(client: number, port: number, nowMs: number): StateEntry {
    const entry = new StateEntry(
      this.zone.number,
      6,
      { kind: keyKinds.snat, src: client, dst: 99, ports: 0x50_0000 | client },
      { kind: keyKinds.reverseSnat, src: 99, dst: 7, ports: ((port << 16) | 0x50) >>> 0 },
    )
    this.state.commit([{ kind: 'addState', entry }], nowMs)
    return entry
  }

  records(nowMs: number): EntryRecord[] {
    return [...this.state.entries()].flatMap((one) => recordOf(one, this.zone, nowMs) ?? [])
  }

  hear(record: EntryRecord, from: string, number: number, nowMs: number) {
    return mergeEntry(record, this.zone, { from, epoch: 1, number }, nowMs, [])
  }

  view(): string[] {
    return this.records(0)
      .map(({ there, back, flags, version }) => JSON.stringify([there, back, flags, version]))
      .sort()
  }
}

test('an entry of either family arrives as it was', (t) => {
  const [one, other] = [new Host('a'), new Host('b', 5)]
  const { book } = one.state
  const [src, dst, nat] = [1, 2, 3].map((last) => book.numberOf(0x2001_0db8, 0, 0, last))
  const six = new StateEntry(
    zoneOf(one.zone.number, true),
    17,
    { kind: keyKinds.snat, src: src ?? 0, dst: dst ?? 0, ports: 5 },
    { kind: keyKinds.reverseSnat, src: dst ?? 0, dst: nat ?? 0, ports: 6 },
    book,
  )
  one.state.commit([{ kind: 'addState', entry: six }], 1000)
  one.add(5, 4000, 1500)
  other.state.book.numberOf(1, 2, 3, 4)
  for (const record of one.records(2000)) other.hear(record, 'a', 1, 7000)
  t.deepEqual(other.view(), one.view())
  t.deepEqual(
    [...other.state.entries()].map(({ lastSeenMs }) => lastSeenMs),
    [6000, 6500],
  )
})

test('a translation that takes the place of one that is idle wins over it everywhere', (t) => {
  const [one, other] = [new Host('a'), new Host('b')]
  const old = one.add(5, 4000, 0)
  old.replied = true
  old.version = 3
  for (const record of one.records(0)) other.hear(record, 'a', 1, 0)
  one.state.remove(old, [])
  // Its port is another client's now, and its client has another port.
  one.add(6, 4000, 10_000)
  one.add(5, 4001, 10_000)
  for (const record of one.records(10_000)) other.hear(record, 'a', 2, 10_000)
  t.deepEqual(other.view(), one.view())
})

test('a late message does not bring back what its teller has let go', (t) => {
  const [one, other] = [new Host('a'), new Host('b')]
  const old = one.add(5, 4000, 0)
  const [late] = one.records(0)
  one.state.remove(old, [])
  one.add(6, 4000, 100)
  for (const record of one.records(100)) other.hear(record, 'a', 2, 100)
  if (late !== undefined) t.is(other.hear(late, 'a', 1, 5000).kind, 'ignored')
  t.deepEqual(other.view(), one.view())
})

test('a balancer that leads a connection elsewhere is followed', (t) => {
  const [one, other] = [new Host('a'), new Host('b')]
  const old = one.add(5, 4000, 0)
  for (const record of one.records(0)) other.hear(record, 'a', 1, 0)
  const entry = new StateEntry(
    one.zone.number,
    6,
    { kind: keyKinds.snat, src: 5, dst: 99, ports: 0x50_0005 },
    { kind: keyKinds.reverseSnat, src: 99, dst: 7, ports: 0x1fa0_0050 },
  )
  one.state.commit([{ kind: 'addState', entry, instead: old }], 10)
  t.is(entry.version, 1)
  for (const record of one.records(10)) other.hear(record, 'a', 2, 10)
  t.deepEqual(other.view(), one.view())
  t.is(other.state.size, 1)
})

interface Step {
  readonly host: number
  readonly what: 'add' | 'use' | 'tell'
  readonly client: number
  readonly port: number
  readonly to: number
}

const step: fc.Arbitrary<Step> = fc.record({
  host: fc.integer({ min: 0, max: 2 }),
  what: fc.constantFrom('add' as const, 'use' as const, 'tell' as const),
  client: fc.integer({ min: 1, max: 4 }),
  port: fc.integer({ min: 4000, max: 4002 }),
  to: fc.integer({ min: 0, max: 2 }),
})

/** Hosts tell each other all they have until nobody learns anything. */
function settle(t: ExecutionContext, hosts: readonly Host[], nowMs: number): void {
  for (let round = 0; round < 20; round++) {
    const before = JSON.stringify(hosts.map((host) => host.view()))
    // All at once: what each tells is what it had before it heard the others.
    const told = hosts.map((host) => host.records(nowMs))
    for (const [at, from] of hosts.entries())
      for (const to of hosts)
        if (from !== to)
          for (const record of told[at] ?? []) to.hear(record, from.name, 1_000_000 + round, nowMs)
    if (JSON.stringify(hosts.map((host) => host.view())) === before) return
  }
  t.fail('they never agree')
}

test('hosts that have told each other all have the same, and no tuple twice', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const hosts = [new Host('a'), new Host('b', 3), new Host('c', 1)]
      let nowMs = 0
      let number = 0
      const late: (() => void)[] = []
      for (const { host: at, what, client, port, to } of steps) {
        const [host, other] = [hosts[at], hosts[to]]
        nowMs += 300
        if (host === undefined || other === undefined) continue
        if (what === 'add') host.add(client, port, nowMs)
        const found = [...host.state.entries()][client % Math.max(1, host.state.size)]
        if (what === 'use' && found !== undefined)
          host.state.commit(
            [{ kind: 'useState', key: found.backward, flags: port === 4000 ? 1 : 0 }],
            nowMs,
          )
        if (what !== 'tell' || other === host) continue
        const records = host.records(nowMs)
        const told = ++number
        // Every third message is late.
        const tell = () => records.map((one) => other.hear(one, host.name, told, nowMs))
        if (told % 3 === 0) late.push(tell)
        else tell()
      }
      for (const tell of late) tell()
      settle(t, hosts, nowMs)
      const [first, ...others] = hosts.map((host) => host.view())
      for (const other of others) t.deepEqual(other, first)
    }),
    { numRuns: 1500 },
  )
})

test('a VLAN has a zone that other hosts know by name, and that goes with its bridge', (t) => {
  const state = new FlowState()
  const zones = new Zones(state, new Memberships())
  const bridge = zones.of('bridge', 'lan')
  const vlan = zones.inVlan(bridge, 10)
  t.not(vlan.number, bridge.number)
  t.is(zones.find('bridge', zoneName(vlan)), vlan)
  t.is(zones.find('bridge', zoneName(bridge)), bridge)
  t.is(zones.find('bridge', 'other/10'), undefined)
  const side = { kind: keyKinds.track, src: 1, dst: 2, ports: 3 }
  const back = { ...side, src: 2, dst: 1 }
  for (const { number } of [bridge, vlan])
    state.commit([{ kind: 'addState', entry: new StateEntry(number, 17, side, back) }], 0)
  t.is(state.size, 2)
  zones.drop('bridge', 'lan')
  t.is(state.size, 0)
  t.is(zones.at(vlan.number), undefined)
})

test('a record whose entry is made anew says the same', (t) => {
  const host = new Host('a')
  const entry = host.add(3, 4001, 50)
  entry.replied = true
  const record = recordOf(entry, host.zone, 80)
  const again = record && entryOf(record, host.zone)
  t.is(again && flagsOf(again), flagsOf(entry))
  t.is(record?.ageMs, 30)
})
