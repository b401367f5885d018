import test from 'ava'
import type { Action } from '../../packet/action.ts'
import { ActionLists } from '../../simulator/action-lists.ts'

const outputTo = (port: number): Action => ({ kind: 'output', port })
const toAddress = (address: number): Action => ({ kind: 'setIpDst', address })

test('flows that do the same by one port share a list', (t) => {
  const lists = new ActionLists()
  const first = lists.listOf([toAddress(7), outputTo(3)], 2)
  t.is(lists.listOf([toAddress(7), outputTo(3), outputTo(4)], 2), first)
})

test('what does something else has a list of its own, and the one before stays as it is', (t) => {
  const lists = new ActionLists()
  const scratch = [toAddress(7), outputTo(3)]
  const first = lists.listOf(scratch, 2)
  scratch[0] = toAddress(8)
  t.deepEqual(lists.listOf(scratch, 2), [toAddress(8), outputTo(3)])
  t.deepEqual(first, [toAddress(7), outputTo(3)])
  t.deepEqual(lists.listOf([outputTo(3)], 1), [outputTo(3)])
  t.deepEqual(lists.listOf([{ kind: 'setTpDst', port: 7 }, outputTo(3)], 2), [
    { kind: 'setTpDst', port: 7 },
    outputTo(3),
  ])
})

test('a list that ends with no output, or by a vport of a high number, is right as well', (t) => {
  const lists = new ActionLists()
  t.deepEqual(lists.listOf([], 0), [])
  t.deepEqual(lists.listOf([outputTo(1), toAddress(1)], 2), [outputTo(1), toAddress(1)])
  t.deepEqual(lists.listOf([outputTo(70_000), outputTo(1)], 1), [outputTo(70_000)])
})
