/** Stations of several hosts that talk with each other on demand, each by a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { HostsError } from './hosts.ts'
import { addressOf, type Station } from './hosts-world.ts'

const child = new URL('./mesh-child.js', import.meta.url).pathname
const port = 7007

interface Member {
  readonly station: Station
  readonly process: ChildProcess
  readonly lines: AsyncIterator<string>
}

export class Mesh {
  readonly #members: readonly Member[]

  private constructor(members: readonly Member[]) {
    this.#members = members
  }

  static async start(stations: readonly Station[]): Promise<Mesh> {
    const members = stations.map((station) => begin(station, stations))
    const mesh = new Mesh(members)
    for (const { lines } of members) await lines.next()
    return mesh
  }

  /** Pairs that do not talk now, as `a>b`; takes up to a quarter of a second. */
  async silent(): Promise<readonly string[]> {
    const found = await Promise.all(
      this.#members.map(async ({ station, process, lines }) => {
        process.stdin?.write('\n')
        const { value, done } = await lines.next()
        if (done === true) throw new HostsError(`station ${station.name} has ended`)
        return String(value)
          .split(' ')
          .filter((address) => address !== '')
          .map((address) => `${station.name}>${this.#nameOf(address)}`)
      }),
    )
    return found.flat()
  }

  close(): void {
    for (const { process } of this.#members) process.kill()
  }

  #nameOf(address: string): string {
    return this.#members.find(({ station }) => addressOf(station) === address)?.station.name ?? '?'
  }
}

function begin(station: Station, all: readonly Station[]): Member {
  const others = all.filter((one) => one !== station).map(addressOf)
  const words = ['netns', 'exec', `hs-${station.name}`, process.execPath, child, String(port)]
  const started = spawn('ip', [...words, ...others], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]()
  return { station, process: started, lines }
}
