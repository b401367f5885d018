import test from 'ava'
import { measureContention, measureScale } from './scale-measure.ts'

test('every host of a simulated cluster sees every change, each at a bounded cost', async (t) => {
  t.timeout(60_000)
  const size = { hosts: 20, ports: 400, networkPorts: 100, networkHosts: 10 }
  const figures = await measureScale(size, 10)
  t.log(figures)
  t.is(figures.unequal, 0)
  // A port with its endpoint, binding and address, as text and in memory.
  t.true(figures.etcdBytes / size.ports < 2_000, 'bytes in etcd')
  t.true(figures.changeBytes > 500 && figures.changeBytes < 4_000, 'bytes of a change')
  t.true(figures.storeBytesPerPort < 8_000, 'memory of the store')
  t.true(figures.compiledBytesPerPort < 8_000, 'memory of what forwards')
  // Three transactions, each of which its host waits for.
  t.true(figures.changeMs > 9 && figures.changeMs < 30, `${figures.changeMs} ms until all saw it`)
})

test('hosts that create endpoints in the same moment all succeed', async (t) => {
  t.timeout(60_000)
  const { hosts, ms, commits, failed } = await measureContention(10)
  t.is(failed, 0)
  t.is(commits, 3 * hosts)
  t.true(ms < 2_000, `${ms} ms`)
})
