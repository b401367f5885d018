/**
 * The history of what several hosts wrote at once, under faults of a real etcd, is that of one store
 * that did one transaction after the other. Seeded: SEED=<seed> makes the same choices again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { releaseAddress, requestAddress, requestPool } from '../../topology/allocate.ts'
import { InvalidObjectError, TopologyError } from '../../topology/error.ts'
import { openEtcdStore } from '../../topology/etcd.ts'
import type { EtcdStore } from '../../topology/etcd-store.ts'
import {
  checkHistory,
  lease,
  type Model,
  Recorder,
  swapRegister,
} from '../topology/linearizability.ts'
import { EtcdCluster } from './etcd-cluster.ts'
import { clusterFaults } from './etcd-faults.ts'
import { randomOf } from './random.ts'

const hosts = 3
const workersPerHost = 2
const registers = ['r0', 'r1', 'r2']
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))

let cluster: EtcdCluster

test.before(async () => {
  cluster = await EtcdCluster.start()
})
test.after.always(() => cluster?.stop())

/** Refused by the rules, before anything was sent: certainly not done. */
function isRefused(error: unknown): boolean {
  return error instanceof TopologyError || error instanceof InvalidObjectError
}

class Workers {
  readonly swaps = new Recorder<string, string>()
  readonly leases = new Recorder<'take' | 'release', boolean>()
  isRunning = true
  readonly #pool: string
  readonly #random = randomOf(seed)

  constructor(pool: string) {
    this.#pool = pool
  }

  async work(store: EtcdStore, name: string): Promise<void> {
    const held = new Set<string>()
    for (let at = 0; this.isRunning; at++) {
      if (this.#random.below(2) === 0) await this.#swap(store, name, `${name}-${at}`)
      else await this.#lease(store, name, held)
      // Else one host that is quick to fail fills the history with calls of unknown end.
      if (store.problem !== undefined) await delay(50)
      await delay(this.#random.below(8))
    }
  }

  #swap(store: EtcdStore, client: string, value: string): Promise<string | undefined> {
    const id = registers[this.#random.below(registers.length)] ?? ''
    const swap = () =>
      store.transact((draft) => {
        const before = draft.get('bridge', id)?.name ?? ''
        draft.put('bridge', { id, name: value, adminUp: true })
        return before
      })
    return this.swaps.run(client, id, value, async () => (await swap()).value, isRefused)
  }

  async #lease(store: EtcdStore, client: string, held: Set<string>): Promise<void> {
    const [mine] = held
    const isTaking = mine === undefined || (held.size < 3 && this.#random.below(2) === 0)
    const address = isTaking ? `10.1.0.${10 + this.#random.below(8)}` : mine
    if (isTaking && held.has(address)) return
    const act = async () => {
      await store.transact((draft) => {
        if (isTaking) requestAddress(draft, this.#pool, { address })
        else releaseAddress(draft, this.#pool, address)
      })
      return true
    }
    const input = isTaking ? 'take' : 'release'
    const done = await this.leases.run(client, address, input, act, isRefused)
    if (!isTaking) held.delete(address)
    else if (done === true) held.add(address)
  }
}

function checkAll<S, I, O>(t: ExecutionContext, model: Model<S, I, O>, recorder: Recorder<I, O>) {
  for (const [key, history] of recorder.histories()) {
    const verdict = checkHistory(model, history)
    const order = verdict.kind === 'not' ? verdict.order.slice(-3) : []
    const rest = verdict.kind === 'not' ? history.filter((one) => !verdict.order.includes(one)) : []
    const told = JSON.stringify({ order, rest: rest.slice(0, 5) })
    t.is(verdict.kind, 'linearizable', `${key}, SEED=${seed}, ${history.length} calls: ${told}`)
  }
}

const chosen = process.env.MIDONET_LONG === undefined ? clusterFaults.slice(1, 4) : clusterFaults

for (const { what, befall } of chosen)
  test.serial(`objects and addresses have one history while ${what}`, async (t) => {
    t.timeout(120_000)
    cluster.wipe()
    const stores = await Promise.all(
      Array.from({ length: hosts }, (_, n) => openEtcdStore(cluster.url, { host: `h${n}` })),
    )
    for (const store of stores) t.teardown(() => store.close())
    const made = await stores[0]?.transact((draft) =>
      requestPool(draft, { space: 'local', subnet: '10.1.0.0/24' }),
    )
    const workers = new Workers(made?.value.id ?? '')
    const all = stores.flatMap((store, host) =>
      Array.from({ length: workersPerHost }, (_, n) => workers.work(store, `h${host}.${n}`)),
    )
    await delay(700)
    await befall(cluster)
    await cluster.healthy()
    const before = workers.swaps.operations.length
    const endMs = performance.now() + 15_000
    while (workers.swaps.operations.length < before + 60 && performance.now() < endMs)
      await delay(20)
    workers.isRunning = false
    await Promise.all(all)
    const [swaps, leases] = [workers.swaps.operations, workers.leases.operations]
    const unknown = [...swaps, ...leases].filter(({ output }) => output === undefined).length
    t.log({ swaps: swaps.length, leases: leases.length, unknown })
    t.true(swaps.length > before + 50, 'writes go on')
    checkAll(t, swapRegister, workers.swaps)
    checkAll(t, lease, workers.leases)
  })
