import test from 'ava'
import { DatapathError } from '../../datapath/datapath.ts'
import { MemoryDatapath } from '../../datapath/memory.ts'
import { captures, fromHex } from '../packet/captures.ts'
import { exact, type World } from './net.ts'
import { testDatapath } from './suite.ts'

const hello = fromHex(captures.udpHello)

function worldOf(datapath: MemoryDatapath): World {
  datapath.loseInterface('mdnowhere')
  return {
    datapath,
    interfaces: ['a0', 'b0', 'c0'],
    send(name, frame) {
      if (datapath.ports().some((port) => port.name === name)) datapath.inject(name, frame)
    },
    take() {
      return datapath.sent.splice(0).map(({ port, frame }) => ({
        name: datapath.ports().find(({ number }) => number === port)?.name ?? '',
        frame,
      }))
    },
    reopen: () => worldOf(datapath),
  }
}

testDatapath(test, () => worldOf(new MemoryDatapath()))

test('idle time follows the clock that was given', (t) => {
  let now = 1000
  const datapath = new MemoryDatapath({ now: () => now })
  const port = datapath.addPort('a0')
  const id = datapath.install(exact(hello, port.number), [])
  datapath.inject('a0', hello)
  now += 250
  t.is(datapath.stats(id)?.idleMs, 250)
})

test('a full flow table refuses', (t) => {
  const datapath = new MemoryDatapath({ flowsMax: 1 })
  datapath.install(exact(hello, 1), [])
  const error = t.throws(() => datapath.install(exact(hello, 2), []), {
    instanceOf: DatapathError,
  })
  t.is(error?.code, 'ENOSPC')
  t.notThrows(() => datapath.install(exact(hello, 1), []))
})

test('upcalls that find no room are counted as lost', (t) => {
  const datapath = new MemoryDatapath({ queueMax: 2 })
  datapath.addPort('a0')
  for (let count = 0; count < 5; count++) datapath.inject('a0', hello)
  const { misses, upcalls, lost } = datapath.counters()
  t.deepEqual([misses, upcalls, lost], [5, 2, 3])
})

test('an interface that is lost takes its port with it', (t) => {
  const datapath = new MemoryDatapath()
  const before = datapath.addPort('a0')
  datapath.loseInterface('a0')
  t.deepEqual(datapath.ports(), [])
  t.throws(() => datapath.inject('a0', hello), { instanceOf: DatapathError })
  datapath.gainInterface('a0')
  t.not(datapath.addPort('a0').number, before.number)
})
