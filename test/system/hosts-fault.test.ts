/**
 * Three hosts on the eBPF datapath over three members of etcd, which need TLS, user and password,
 * under faults, while writers go on at all of them. After each fault the world settles in bounded time. Seeded: SEED=<seed> again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { user } from './etcd-secure.ts'
import { FaultWorld } from './fault-world.ts'
import { Writers } from './fault-writer.ts'
import { hostFaults } from './host-faults.ts'
import { ensurePackages } from './packages.ts'
import { randomOf } from './random.ts'
import { wallClockPackage } from './wall-clock.ts'

const isLong = process.env.MIDONET_LONG !== undefined
const first = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
const seeds = isLong ? [first, first + 1, first + 2] : [first]
/**
 * From the end of the fault: all processes run, and everything can reach everything. The short run is
 * for machines that have other work, too.
 */
const usualMs = isLong ? 1_000 : 5_000
const warmMs = isLong ? 1_000 : 300

const main = new URL('../../main.js', import.meta.url).pathname
let world: FaultWorld

test.before(async (t) => {
  t.timeout(120_000)
  ensurePackages(isLong ? [wallClockPackage] : [])
  world = await FaultWorld.open({ isSecure: true, hasClocks: isLong })
})

test.after.always(() => world?.close())

for (const seed of seeds) {
  const random = randomOf(seed)
  let writers: Writers

  test.serial(`before all faults, seed ${seed}`, async (t) => {
    writers = new Writers(world.hosts, seed)
    await writers.prepare()
    t.deepEqual((await world.settle(5_000)).wrong, [])
  })

  for (const { what, befall, settleMs = usualMs } of hostFaults.filter(
    ({ isShort }) => isLong || isShort,
  ))
    test.serial(`settled after ${what}, seed ${seed}`, async (t) => {
      t.timeout(120_000)
      const { done } = writers
      writers.start()
      await sleep(warmMs)
      await befall(world, random)
      const began = performance.now()
      await writers.stop()
      const stoppedMs = performance.now() - began
      const { ms, wrong, last } = await world.settle(settleMs)
      t.log(`settled in ${Math.round(stoppedMs + ms)} ms; ${writers.done - done} writes meanwhile`)
      if (last.length > 0) t.log(`last: ${last.slice(0, 3).join('; ')}`)
      t.deepEqual(wrong, [], `SEED=${seed}`)
      t.true(stoppedMs + ms <= settleMs, `SEED=${seed}`)
      t.true(writers.done > done, 'writes go on')
    })

  test.serial(`what was written under all faults has one history, seed ${seed}`, (t) => {
    const { registers, leases } = writers
    const all = [...registers.operations, ...leases.operations]
    const unknown = all.filter(({ output }) => output === undefined).length
    t.log({ registers: registers.operations.length, leases: leases.operations.length, unknown })
    t.deepEqual(writers.unexplained(), [], `SEED=${seed}`)
    t.true(all.length > 100)
  })
}

test.serial('no password is in a log, and a wrong one is told', async (t) => {
  t.timeout(60_000)
  const stage = world.hosts.stage(0)
  await stage.stopAgent('TERM')
  const { MIDONET_STORE_PASSWORD: _, ...settings } = world.hosts.etcd.settings
  const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  const wrong = [
    ...words,
    'MIDONET_STORE_PASSWORD=wrong-horse',
    `MIDONET_STATE_DIR=${stage.dir}/wrong`,
  ]
  const run = `MIDONET_RUN_DIR=${stage.dir}/run DEBUG=midonet:* timeout 30 ${process.execPath} ${main} 2>&1`
  const said = await stage.sh(`env ${wrong.join(' ')} ${run}`)
  t.regex(said, /etcd at .* (refuses the user|wants user and password)/)
  t.notRegex(said, /wrong-horse|token [A-Za-z]{16}\./)
  await stage.startAgent()
  for (const { said: log } of world.stages) t.notRegex(log, new RegExp(user.password))
})
