/** Runs in a guest (test/vm): the datapath of the kernel module against the shared suite. */
import test from 'ava'
import type { Datapath, Upcall } from '../../datapath/datapath.ts'
import { type OvsDatapath, openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import type { World } from '../datapath/net.ts'
import { testDatapath } from '../datapath/suite.ts'
import { enterFreshNetwork, TapPort } from '../system/tap-port.ts'

enterFreshNetwork()
const taps = ['mda', 'mdb', 'mdc'].map((name) => new TapPort(name))
let current: OvsDatapath = openOvsDatapath()

/** Upcalls that came while the datapath was only to do its own work. */
let kept: Upcall[] = []

function keep(upcall: Upcall): void {
  kept.push({ ...upcall, packet: upcall.packet.slice(), key: upcall.key.slice() })
}

let isClosed = false

/** The datapath, handing on what was kept before anything new. */
function keeping(datapath: OvsDatapath): Datapath {
  const receive = (budget: number, handle: (upcall: Upcall) => void): number => {
    const first = kept.splice(0, budget)
    for (const upcall of first) handle(upcall)
    return first.length + datapath.receive(budget - first.length, handle)
  }
  return new Proxy(datapath, {
    get(target, name) {
      if (name === 'receive') return receive
      if (name === 'close') isClosed = true
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

function worldOf(datapath: OvsDatapath): World {
  return {
    datapath: keeping(datapath),
    interfaces: taps.map(({ name }) => name),
    send(name, frame) {
      taps.find((tap) => tap.name === name)?.send(frame)
    },
    take() {
      // What the kernel cannot do is done here.
      if (!isClosed) datapath.receive(1000, keep)
      return taps.flatMap((tap) => tap.take().map(({ frame }) => ({ name: tap.name, frame })))
    },
    reopen() {
      current = openOvsDatapath()
      isClosed = false
      return worldOf(current)
    },
  }
}

/** The one datapath, without ports, flows and packets under way. */
function restore(): World {
  for (const { id } of [...current.flows()]) current.remove(id)
  for (const { number } of current.ports()) current.removePort(number)
  while (current.receive(1000, () => {}) > 0);
  kept = []
  for (const tap of taps) tap.take()
  return worldOf(current)
}

testDatapath(test, restore)
