/**
 * Docker's containers as its events tell them, watched outside of driver calls: their names, for
 * people, and the policy that their labels ask for. Events only say that something changed: however
 * many come, one question is asked after them, and the next when that is answered.
 */
import createDebug from 'debug'
import type { Endpoint } from '../topology/model.ts'
import type { DriverContext } from './context.ts'
import type { DockerContainer, DockerView } from './docker.ts'
import { readGroupsLabel } from './options.ts'
import { Passes } from './passes.ts'
import { type GroupsLabel, labelGroups, missingGroups } from './security-group.ts'

const log = createDebug('midonet:driver')

export const limits = {
  /** From an event to the question. */
  eventMs: 50,
  /** Between questions without an event, for what was missed. */
  passMs: 30_000,
  namesMax: 65_536,
} as const

export interface ContainersSettings {
  readonly ready: Promise<DriverContext>
  readonly docker: DockerView | undefined
}

/** Names by id, of endpoints and of networks. */
export type Names = ReadonlyMap<string, string>

export class Containers {
  readonly #settings: ContainersSettings
  readonly #stops: (() => void)[] = []
  #names: Names = new Map()
  #problems: readonly string[] = []
  readonly #passes = new Passes(async () => {
    await this.#pass()
    return limits.passMs
  })

  constructor(settings: ContainersSettings) {
    this.#settings = settings
  }

  /** As Docker said last; empty until it has said something. */
  get names(): Names {
    return this.#names
  }

  /** What labels ask for and cannot get, in sentences. */
  get problems(): readonly string[] {
    return this.#problems
  }

  start(): void {
    const { docker, ready } = this.#settings
    if (this.#passes.isStarted || docker?.containers === undefined) return
    this.#passes.start(limits.eventMs)
    const soon = () => this.#passes.within(limits.eventMs)
    this.#stops.push(docker.watch(soon, ['network', 'container']))
    // A group that was missing is made.
    const watching = ready.then(({ store }) =>
      store.watch((batch) => {
        if (batch.changes.some(({ kind }) => kind === 'chain') && this.#problems.length > 0) soon()
      }),
    )
    watching.then(
      (stop) => (this.#passes.isStarted ? this.#stops.push(stop) : stop()),
      () => undefined,
    )
  }

  stop(): void {
    this.#passes.stop()
    for (const stop of this.#stops.splice(0)) stop()
  }

  /** Asks once and acts on the answer; with Docker silent all stays as it was. Never rejects. */
  pass(): Promise<void> {
    return this.#passes.run()
  }

  async #pass(): Promise<void> {
    try {
      const context = await this.#settings.ready
      const containers = (await this.#settings.docker?.containers?.()) ?? []
      this.#names = namesOf(containers)
      this.#problems = await followLabels(context, containers)
    } catch (error) {
      log('containers are not followed: %s', error)
    }
  }
}

function namesOf(containers: readonly DockerContainer[]): Names {
  const names = containers.flatMap(({ name, endpoints }) =>
    endpoints.flatMap(({ id, network, networkName }) => [
      [id, name] as const,
      [network, networkName] as const,
    ]),
  )
  return new Map(names.slice(0, limits.namesMax))
}

/** Puts ports into the groups that labels name. Returns what is wrong. */
async function followLabels(
  context: DriverContext,
  containers: readonly DockerContainer[],
): Promise<readonly string[]> {
  const problems: string[] = []
  for (const { name, labels, endpoints } of containers) {
    for (const { id } of endpoints) {
      const endpoint = context.store.get('endpoint', id)
      if (endpoint === undefined || endpoint.host !== context.host) continue
      // What was said at the endpoint itself counts more.
      if (endpoint.securityGroups !== undefined && endpoint.groupsLabel === undefined) continue
      const label = readLabel(labels)
      if (label === undefined) continue
      problems.push(...problemsOf(context, name, label))
      await context.turns.take(id, () => follow(context, endpoint.id, label))
    }
  }
  return [...new Set(problems)]
}

function readLabel(labels: Readonly<Record<string, string>>): LabelRead | undefined {
  try {
    return readGroupsLabel(labels)
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error)
    return { text: labels['org.midonet.security-groups']?.slice(0, 4096) ?? '', names: [], problem }
  }
}

type LabelRead = GroupsLabel & { readonly problem?: string }

function problemsOf({ store }: DriverContext, name: string, label: LabelRead): readonly string[] {
  const { names, problem } = label
  if (problem !== undefined) return [`container ${name}: label: ${problem}; nothing reaches it`]
  return missingGroups(store, names).map(
    (group) =>
      `container ${name}: label org.midonet.security-groups: there is no security group ${group}, ` +
      `so it lets nothing pass; make its chain: midonet cli -e 'chain create name ${group}'`,
  )
}

async function follow({ store }: DriverContext, id: string, label: GroupsLabel): Promise<void> {
  const isAsSaid = (endpoint: Endpoint) => {
    const missing = missingGroups(store, label.names)
    const wanted = label.names.filter((name) => !missing.includes(name))
    const given = endpoint.securityGroups ?? []
    return endpoint.groupsLabel === label.text && wanted.join() === given.join()
  }
  const current = store.get('endpoint', id)
  if (current === undefined || isAsSaid(current)) return
  await store.transact((draft) => {
    const endpoint = draft.get('endpoint', id)
    if (endpoint !== undefined) labelGroups(draft, endpoint, label)
  })
}
