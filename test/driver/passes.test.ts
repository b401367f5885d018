import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Passes } from '../../driver/passes.ts'

/** Asks for a pass again and again until there were `count`; fails after a minute. */
async function urge(passes: Passes, begun: readonly unknown[], count: number): Promise<void> {
  const end = performance.now() + 60_000
  while (begun.length < count && performance.now() < end) {
    passes.within(0)
    await sleep(1)
  }
}

test('however much happens, a pass rests nine times as long as it took', async (t) => {
  const all: { begin: number; end: number }[] = []
  const passes = new Passes(async () => {
    const pass = { begin: performance.now(), end: 0 }
    await sleep(5)
    pass.end = performance.now()
    all.push(pass)
    return 60_000
  })
  passes.start()
  await urge(passes, all, 4)
  passes.stop()
  t.true(all.length >= 4)
  all.slice(1).forEach(({ begin }, at) => {
    const before = all[at] ?? { begin: 0, end: 0 }
    const rest = Math.min(1_000, 9 * (before.end - before.begin))
    t.true(begin - before.end >= rest, `${begin - before.end} ms of ${rest}`)
  })
})

test('after a pass that took an hour, one begins soon again', async (t) => {
  const begun: number[] = []
  let jumpedMs = 0
  const now = () => performance.now() + jumpedMs
  const passes = new Passes(async () => {
    begun.push(now())
    jumpedMs += 3_600_000
    return 86_400_000
  }, now)
  passes.start()
  await urge(passes, begun, 2)
  passes.stop()
  t.true(begun.length >= 2)
})

test('what happens during a pass is followed by another', async (t) => {
  const begun: number[] = []
  const passes: Passes = new Passes(async () => {
    if (begun.push(performance.now()) === 1) passes.within(0)
    return 86_400_000
  })
  passes.start()
  for (let turn = 0; turn < 6_000 && begun.length < 2; turn++) await sleep(10)
  passes.stop()
  t.is(begun.length, 2)
})
