/**
 * Three hosts under faults, and what must hold once they have settled:
 *
 *   every agent's topology is the store's      every pair of stations talks
 *   no address, no tunnel key twice            no link, namespace, process, lease, flow is left over
 */
import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { call, objectsOf } from './fault-call.ts'
import { Hosts, type HostsOptions, hostName } from './hosts.ts'
import { furnishHosts, stations } from './hosts-world.ts'
import { Mesh } from './mesh.ts'
import type { Stage } from './stage.ts'

const mtu = 1450
const lookAgainMs = 700

/** What is counted before and after: more of it afterwards has leaked. */
interface Inventory {
  readonly links: readonly (readonly string[])[]
  readonly namespaces: readonly string[]
}

export class FaultWorld {
  readonly hosts: Hosts
  readonly mesh: Mesh
  readonly #before: Inventory

  private constructor(hosts: Hosts, mesh: Mesh) {
    this.hosts = hosts
    this.mesh = mesh
    this.#before = this.#inventory()
  }

  static async open(options: HostsOptions = {}, all = stations): Promise<FaultWorld> {
    const hosts = await Hosts.open(options)
    await furnishHosts(hosts, mtu, all)
    const mesh = await Mesh.start(all)
    // Whoever has not spoken yet is not known to the others.
    for (let tries = 0; tries < 20 && (await mesh.silent()).length > 0; tries++) await sleep(100)
    return new FaultWorld(hosts, mesh)
  }

  get stages(): readonly Stage[] {
    return this.hosts.stages
  }

  async close(): Promise<void> {
    this.mesh.close()
    await this.hosts.close()
  }

  /** Waits until nothing is wrong any more; what still is after `boundMs`, what was last, and how long it took. */
  async settle(boundMs: number): Promise<{
    readonly ms: number
    readonly wrong: readonly string[]
    readonly last: readonly string[]
  }> {
    const began = performance.now()
    let last: readonly string[] = []
    for (;;) {
      // The moment of a look is when it begins: what it sees held then, or came even later.
      const ms = performance.now() - began
      const wrong = [...(await this.topologies()), ...(await this.#silent())]
      if (wrong.length === 0) return { ms, wrong: await this.#lasting(), last }
      if (ms > boundMs) return { ms, wrong, last }
      last = wrong
      await sleep(20)
    }
  }

  /** Where an agent's topology is not the store's, and what is there twice. */
  async topologies(): Promise<readonly string[]> {
    const [store, ...agents] = await Promise.all([
      this.#stored(),
      ...this.stages.map(({ dir }) => objectsOf(`${dir}/run/agent.sock`)),
    ])
    if (store === undefined) return ['etcd does not answer']
    return [
      ...agents.flatMap((agent, at) => differences(`host ${at + 1}`, store, agent)),
      ...twice(store),
    ]
  }

  async #silent(): Promise<readonly string[]> {
    return (await this.mesh.silent()).map((pair) => `${pair} is silent`)
  }

  async #stored(): Promise<Map<string, string> | undefined> {
    try {
      return this.hosts.etcd.objects()
    } catch {
      return undefined
    }
  }

  /** Leaks that are there at two looks: an agent's commands come and go. */
  async #lasting(): Promise<readonly string[]> {
    const first = await this.leaks()
    if (first.length === 0) return first
    await sleep(lookAgainMs)
    const second = await this.leaks()
    return first.filter((one) => second.includes(one))
  }

  /** What is there that has no reason. */
  async leaks(): Promise<readonly string[]> {
    const { links, namespaces } = this.#inventory()
    const more = links.flatMap((names, at) => {
      const known = this.#before.links[at] ?? []
      return names
        .filter((name) => !known.includes(name))
        .map((name) => `link ${name} at ${at + 1}`)
    })
    const spaces = namespaces.filter((name) => !this.#before.namespaces.includes(name))
    const processes = this.stages.flatMap((_, at) => {
      const pids = ip('netns', 'pids', hostName(at)).split('\n').filter(Boolean)
      return pids.length === 1 ? [] : [`host ${at + 1} has processes ${pids.join(' ')}`]
    })
    const flows = await Promise.all(this.stages.map((stage, at) => staleFlows(stage, at)))
    return [
      ...more,
      ...spaces.map((name) => `namespace ${name}`),
      ...processes,
      ...flows.flat(),
      ...this.hosts.etcd.leftovers(this.stages.length),
    ]
  }

  #inventory(): Inventory {
    const links = this.hosts.stages.map((_, at) =>
      [...ip('-n', hostName(at), '-o', 'link').matchAll(/^\d+: ([^:@]+)/gm)].map(
        ([, name = '']) => name,
      ),
    )
    const list = ip('netns', 'list').split('\n')
    const names = list.map((line) => line.split(' ')[0] ?? '')
    // What else runs on this machine has namespaces of its own.
    return { links, namespaces: names.filter((name) => /^(hs-|mn)/.test(name)) }
  }
}

function ip(...words: readonly string[]): string {
  return spawnSync('ip', words, { encoding: 'utf8' }).stdout
}

function differences(
  who: string,
  store: ReadonlyMap<string, string>,
  agent: ReadonlyMap<string, string> | undefined,
): readonly string[] {
  if (agent === undefined) return [`${who} does not answer`]
  const wrong = [...store].filter(([key, value]) => agent.get(key) !== value).map(([key]) => key)
  const more = [...agent.keys()].filter((key) => !store.has(key))
  return [
    ...wrong.map((key) => `${who}: ${key} is not the store's`),
    ...more.map((key) => `${who}: ${key} is not in the store`),
  ]
}

/** Tunnel keys and addresses of pools that two objects have. */
function twice(store: ReadonlyMap<string, string>): readonly string[] {
  const seen = new Set<string>()
  return [...store].flatMap(([key, text]) => {
    const [kind] = key.split('/')
    if (kind !== 'binding' && kind !== 'address') return []
    const { tunnelKey, pool, address } = JSON.parse(text)
    const unique = kind === 'binding' ? `key ${tunnelKey}` : `${pool} ${address}`
    if (seen.has(unique)) return [`${unique} is there twice`]
    seen.add(unique)
    return []
  })
}

/** Flows that name a port which the datapath has no more. */
async function staleFlows(stage: Stage, at: number): Promise<readonly string[]> {
  const ask = async (command: string): Promise<string> => {
    const body = { command, words: [] }
    const { text } = await call(`${stage.dir}/run/agent.sock`, 'POST', '/dpctl', { body })
    return String(JSON.parse(text || '{}').text)
  }
  const [ports, flows] = [await ask('show'), await ask('dump-flows')]
  const known = new Set([...ports.matchAll(/port (\d+)/g)].map(([, number]) => number))
  return [...flows.matchAll(/in_port\((\d+)\).*/g)]
    .filter(([, number]) => !known.has(number))
    .map(([flow]) => `host ${at + 1} has a flow of a port that is gone: ${flow}`)
}
