/**
 * Follows the services of a Swarm from where it is led: asks Docker for services and tasks as long as
 * there are networks of ours that could have them, and writes what they are into the topology. One
 * host of all does it, the leader of the moment.
 */
import createDebug from 'debug'
import type { DriverContext } from './context.ts'
import type { DockerView } from './docker.ts'
import { Passes } from './passes.ts'
import { needsServices, networksServed, planServices } from './service.ts'

const log = createDebug('midonet:driver')

export const limits = {
  /** Between two looks; Docker has no events for tasks. */
  passMs: 1_000,
  /** After an event of a service or a node, whose tasks then change: from it to the first look … */
  eventMs: 50,
  /** … between looks, and for how long. */
  changeMs: 250,
  changingMs: 3_000,
  /** While this host does not lead, or nothing is to be looked after. */
  idleMs: 5_000,
} as const

export class ServiceWatch {
  readonly #ready: Promise<DriverContext>
  readonly #docker: DockerView
  readonly #passes = new Passes(async () => {
    if (!(await this.pass())) return limits.idleMs
    return performance.now() < this.#changingUntil ? limits.changeMs : limits.passMs
  })
  #changingUntil = 0
  #stopWatch: (() => void) | undefined
  #problem: string | undefined

  constructor(ready: Promise<DriverContext>, docker: DockerView) {
    this.#ready = ready
    this.#docker = docker
  }

  /** Why services are not looked after at present, if they should be. */
  get problem(): string | undefined {
    return this.#problem
  }

  start(): void {
    if (this.#passes.isStarted) return
    this.#passes.start()
    if (this.#docker.services === undefined) return
    this.#stopWatch = this.#docker.watch(() => {
      this.#changingUntil = performance.now() + limits.changingMs
      this.#passes.within(limits.eventMs)
    }, ['service', 'node'])
  }

  stop(): void {
    this.#passes.stop()
    this.#stopWatch?.()
  }

  /** Looks once. Says whether this host looks after services. Never rejects. */
  async pass(): Promise<boolean> {
    try {
      const { store } = await this.#ready
      if (networksServed(store).length === 0 && !hasLeft(store)) return false
      const services = await this.#docker.services?.()
      this.#problem = undefined
      if (services === undefined) return false
      if (needsServices(store, services))
        await store.transact((draft) => planServices(draft, services))
      return true
    } catch (error) {
      this.#problem = error instanceof Error ? error.message : String(error)
      log('services: %s', this.#problem)
      return false
    }
  }
}

/** Whether something of services stands that have gone since. */
function hasLeft(store: DriverContext['store']): boolean {
  return store.list('balancerPool').some(({ id }) => id.startsWith('swarm:'))
}
