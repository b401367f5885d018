/** What befalls hosts that share a store: each ends with everything running and reachable again. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { call } from './fault-call.ts'
import type { FaultWorld } from './fault-world.ts'
import { eventually, HostsError, hostName, storeAddress, underlayOf } from './hosts.ts'
import type { Random } from './random.ts'
import { secondsAhead } from './wall-clock.ts'

export interface HostFault {
  /** In words that follow `after`. */
  readonly what: string
  /** Also in the short run. */
  readonly isShort: boolean
  /** Another bound than 1 s on settling. */
  readonly settleMs?: number
  befall(world: FaultWorld, random: Random): Promise<void>
}

const isLong = process.env.MIDONET_LONG !== undefined
/** Pauses: longer than a lease (10 s) lives in the long run. */
const pauseMs = isLong ? 30_000 : 2_500
const cutMs = isLong ? 15_000 : 3_000
/** How long it goes on beside the fault. */
const lastMs = 1_000

const hostOf = (world: FaultWorld, random: Random): number => random.below(world.stages.length)

function pidOf(world: FaultWorld, host: number): number {
  return Number(readFileSync(`${world.hosts.stage(host).dir}/run/agent.pid`, 'utf8'))
}

/** Packets of a host that match are dropped, both ways. */
function drop(host: number, inbound: string, outbound: string): void {
  nft(
    host,
    `table inet fault {
  chain in {
    type filter hook input priority -300
    ${inbound} drop
  }
  chain out {
    type filter hook output priority -300
    ${outbound} drop
  }
}
`,
  )
}

function undrop(host: number): void {
  nft(host, 'delete table inet fault\n')
}

function nft(host: number, input: string): void {
  const words = ['netns', 'exec', hostName(host), 'nft', '-f', '-']
  const { status, stderr } = spawnSync('ip', words, { input, encoding: 'utf8' })
  if (status !== 0) throw new HostsError(`nft: ${stderr}`)
}

async function cut(host: number, addresses: readonly string[]): Promise<void> {
  const set = `{ ${addresses.join(', ')} }`
  drop(host, `ip saddr ${set}`, `ip daddr ${set}`)
  await sleep(cutMs)
  undrop(host)
}

async function restartAgent(world: FaultWorld, host: number, between: () => void): Promise<void> {
  const stage = world.hosts.stage(host)
  await stage.stopAgent('KILL')
  between()
  await stage.startAgent()
}

const agentFaults: readonly HostFault[] = [
  {
    what: 'an agent is killed and another one started',
    isShort: true,
    befall: (world, random) => restartAgent(world, hostOf(world, random), () => {}),
  },
  {
    what: 'an agent is stopped for a while',
    isShort: true,
    async befall(world, random) {
      const pid = pidOf(world, hostOf(world, random))
      process.kill(pid, 'SIGSTOP')
      await sleep(pauseMs)
      process.kill(pid, 'SIGCONT')
    },
  },
  {
    what: 'the replica of a host is damaged while its agent is down',
    isShort: true,
    async befall(world, random) {
      const host = hostOf(world, random)
      const { dir } = world.hosts.stage(host)
      const replica = `${dir}/state/replica`
      await restartAgent(world, host, () => {
        for (const name of readdirSync(replica).filter((one) => /\.(log|ldb)$/.test(one)))
          writeFileSync(`${replica}/${name}`, 'damaged on purpose')
      })
      if (!/damaged.*the replica is made again from etcd/.test(world.hosts.stage(host).said))
        throw new HostsError(`host ${host + 1} does not say that its replica was damaged`)
      rmSync(`${replica}.damaged`, { recursive: true })
    },
  },
  {
    what: 'the disk under a replica is full for a while',
    isShort: false,
    async befall(world, random) {
      const host = hostOf(world, random)
      const { dir } = world.hosts.stage(host)
      const replica = `${dir}/state/replica`
      const words = ['-t', 'tmpfs', '-o', 'size=1m', 'midonet-test', replica]
      await restartAgent(world, host, () => run('mount', ...words))
      try {
        spawnSync('dd', ['if=/dev/zero', `of=${replica}/filler`, 'bs=4k'], { stdio: 'ignore' })
        await sleep(lastMs)
        await problemOf(dir, /the replica on disk is not written any more/)
      } finally {
        // What the agent had before it, older than what it wrote meanwhile.
        await restartAgent(world, host, () => run('umount', replica))
      }
    },
  },
]

const clockFaults: readonly HostFault[] = [
  { what: 'the clock of a host is set an hour ahead', seconds: 3_600 },
  { what: 'the clock of a host is set an hour back', seconds: -3_600 },
].map(({ what, seconds }) => ({
  what,
  isShort: false,
  async befall(world, random) {
    const host = hostOf(world, random)
    world.hosts.clocks[host]?.set(seconds)
    const isSet = async () => {
      const ahead = await secondsAhead(`${world.hosts.stage(host).dir}/run/agent.sock`)
      return Math.abs(ahead - seconds) < 60
    }
    if (!(await eventually(isSet))) throw new HostsError(`the clock of ${host + 1} was not set`)
    // It stays so.
    await sleep(cutMs / 3)
  },
}))

const etcdFaults: readonly HostFault[] = [
  {
    what: 'a member of etcd is killed and comes back',
    isShort: false,
    async befall({ hosts: { etcd } }, random) {
      const at = random.below(etcd.size)
      await etcd.kill(at)
      await sleep(lastMs)
      etcd.run(at)
      await etcd.healthy()
    },
  },
  {
    what: 'the leader of etcd is killed and comes back',
    isShort: true,
    async befall({ hosts: { etcd } }) {
      const at = etcd.leader()
      await etcd.kill(at)
      await sleep(lastMs)
      etcd.run(at)
      await etcd.healthy()
    },
  },
  {
    what: 'a member of etcd is stopped for a while',
    isShort: false,
    async befall({ hosts: { etcd } }, random) {
      const at = (etcd.leader() + 1 + random.below(etcd.size - 1)) % etcd.size
      etcd.signal(at, 'SIGSTOP')
      await sleep(pauseMs)
      etcd.signal(at, 'SIGCONT')
      await etcd.healthy()
    },
  },
  {
    what: 'the leader of etcd is stopped for a while',
    isShort: false,
    async befall({ hosts: { etcd } }) {
      const at = etcd.leader()
      etcd.signal(at, 'SIGSTOP')
      await sleep(pauseMs)
      etcd.signal(at, 'SIGCONT')
      await etcd.healthy()
    },
  },
  {
    what: 'all of etcd is lost and comes back with its data',
    isShort: true,
    // As of a host that is cut off for longer than a lease lives.
    ...(isLong && { settleMs: 2_000 }),
    async befall({ hosts: { etcd } }) {
      for (let at = 0; at < etcd.size; at++) await etcd.kill(at)
      await sleep(cutMs)
      for (let at = 0; at < etcd.size; at++) etcd.run(at)
      await etcd.healthy()
    },
  },
]

const networkFaults: readonly HostFault[] = [
  {
    what: 'a host is cut off from etcd',
    isShort: true,
    // Beyond its lease the others have forgotten what the host told: it is learned and told anew.
    ...(isLong && { settleMs: 2_000 }),
    befall: (world, random) => cut(hostOf(world, random), [storeAddress]),
  },
  {
    what: 'a host is cut off from another host',
    isShort: false,
    befall: (world, random) => {
      const host = hostOf(world, random)
      return cut(host, [underlayOf((host + 1) % world.stages.length)])
    },
  },
  {
    what: 'a host is cut off from etcd and the other hosts',
    isShort: true,
    befall: (world, random) => {
      const host = hostOf(world, random)
      const others = world.stages.map((_, at) => underlayOf(at)).filter((_, at) => at !== host)
      return cut(host, [storeAddress, ...others])
    },
  },
  {
    what: '5 % of all packets between hosts, and between them and etcd, are lost',
    isShort: false,
    async befall(world) {
      const loss = 'numgen random mod 100 < 5'
      for (const at of world.stages.keys()) drop(at, loss, `ip daddr ${storeAddress} ${loss}`)
      await sleep(cutMs)
      for (const at of world.stages.keys()) undrop(at)
    },
  },
]

export const hostFaults: readonly HostFault[] = [
  ...agentFaults,
  ...clockFaults,
  ...etcdFaults,
  ...networkFaults,
]

function run(command: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new HostsError(`${command} ${args.join(' ')}: ${stderr}`)
}

/** Fails when `midonet status` does not tell of a problem. */
async function problemOf(dir: string, what: RegExp): Promise<void> {
  const { text } = await call(`${dir}/run/agent.sock`, 'GET', '/status')
  if (!what.test(text)) throw new HostsError(`no problem ${what} in ${text}`)
}
