/** What is known of flows in the kernel: whose statistics are whose. */
import test from 'ava'
import { FlowRecords } from '../../datapath/ovs/flow-record.ts'
import { createMatch } from '../../datapath/ovs/match.ts'

function matchOf(port: number) {
  const match = createMatch()
  match.key[0] = port
  match.mask[0] = 0xffff_ffff
  return match
}

test('a flow that gets the id of another has not been read with it', (t) => {
  const records = new FlowRecords()
  const first = records.findOrAdd(matchOf(1), 7, 1)
  records.note(first, 1, 10, 1000, 5)
  t.true(records.wasRead(first, 1))
  t.is(records.stats(first, 6).packets, 10)
  records.remove(first)
  const second = records.findOrAdd(matchOf(2), 7, 2)
  t.is(second, first)
  t.false(records.wasRead(second, 1))
  t.is(records.stats(second, 6).packets, 0)
})
