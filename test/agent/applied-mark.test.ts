import test from 'ava'
import { AppliedMark } from '../../agent/applied-mark.ts'

/** The main thread's and the worker's. */
function bothSides(): readonly [AppliedMark, AppliedMark] {
  const main = new AppliedMark()
  return [main, new AppliedMark(main.memory)]
}

test('the main thread sees how far the worker is, who tells nothing that nobody waits for', (t) => {
  const [main, worker] = bothSides()
  t.is(main.applied, -1)
  t.is(main.wished, 2 ** 63)
  t.false(worker.reach(7))
  t.is(main.applied, 7)
})

test('what is waited for is told, when it is reached and not before', (t) => {
  const [main, worker] = bothSides()
  main.wish(3)
  t.is(worker.wished, 3)
  t.false(worker.reach(2))
  t.true(worker.reach(3))
  t.true(worker.reach(4))
  main.wish(undefined)
  t.false(worker.reach(5))
})

test('the revision 0 of an empty store can be waited for', (t) => {
  const [main, worker] = bothSides()
  main.wish(0)
  t.true(worker.reach(0))
})
