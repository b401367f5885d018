import test from 'ava'
import fc from 'fast-check'
import { readNote } from '../../datapath/lending.ts'

const before = {
  up: true,
  promiscuous: false,
  ipv6: true,
  qdisc: true,
  addresses6: ['fd05::1/64'],
  alias: 'to the rack',
}

test('what an interface was is read from its alias, and aliases of others are not', (t) => {
  t.deepEqual(readNote(`midonet:${JSON.stringify(before)}`), before)
  t.is(readNote('to the rack'), undefined)
  t.is(readNote('midonet:{"up":tr'), undefined)
  t.like(readNote('midonet:{"up":1,"addresses6":7}'), { up: false, addresses6: [], alias: '' })
})

test('no alias makes it fail', (t) => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => void readNote(`midonet:${text}`)),
  )
  t.pass()
})
