/**
 * Load balancing with real sockets: two servers, one of which falls ill and dies.
 *
 *   a, b (servers), d ── bridge red ── router r, VIP 203.0.113.9 ── bridge blue ── c
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecutionContext, TestFn } from 'ava'
import { type Machine, Stage } from './stage.ts'
import { furnishWorld, WorldError, type WorldSpec } from './stage-world.ts'
import { ask, ping, serve } from './station.ts'

const world: WorldSpec = {
  bridges: {
    red: { router: 'r', address: '10.1.0.1/24' },
    blue: { router: 'r', address: '10.2.0.1/24' },
  },
  stations: {
    a: { bridge: 'red', address: '10.1.0.2/24', gateway: '10.1.0.1' },
    b: { bridge: 'red', address: '10.1.0.3/24', gateway: '10.1.0.1' },
    d: { bridge: 'red', address: '10.1.0.4/24', gateway: '10.1.0.1' },
    c: { bridge: 'blue', address: '10.2.0.2/24', gateway: '10.2.0.1' },
  },
}
const members = { a: '10.1.0.2', b: '10.1.0.3' } as const
const vip = '203.0.113.9'
const child = new URL('./balance-child.js', import.meta.url).pathname

export interface BalanceOptions {
  readonly datapath: string
  readonly open: () => Promise<Machine>
}

class BalanceStage extends Stage {
  /** Numbers of the servers' processes. */
  readonly #servers = new Map<string, number>()

  async furnish(): Promise<void> {
    await furnishWorld(this, world)
    await this.give('loadBalancer', { id: 'lb', router: 'r', adminUp: true })
    await this.give('balancerPool', { id: 'web', loadBalancer: 'lb', adminUp: true })
    for (const name of ['a', 'b'] as const) {
      const place = { pool: 'web', address: members[name], port: 8080 }
      await this.give('poolMember', { id: name, ...place, weight: 1, adminUp: true })
      await this.serve(name)
      await serve(this, name, 8081)
    }
    const front = { loadBalancer: 'lb', pool: 'web', address: vip, persistence: 'none' }
    for (const protocol of ['tcp', 'udp'])
      await this.give('vip', { id: protocol, ...front, protocol, port: 80, adminUp: true })
  }

  async give(kind: string, value: Parameters<Stage['put']>[1]): Promise<void> {
    const answer = await this.put(kind, value)
    const failed = typeof answer === 'object' && answer !== null && 'code' in answer
    if (failed) throw new WorldError(`${kind} is refused: ${JSON.stringify(answer)}`)
  }

  async serve(name: string): Promise<void> {
    const args = ['netns', 'exec', name, process.execPath, child, 'serve', '8080', name]
    const server = this.spawn('ip', ...args)
    if (server.stdout === null) return
    const [said] = await once(server.stdout, 'data')
    this.#servers.set(name, Number(said))
  }

  /** A server that vanishes with its network: nobody answers, nobody resets. */
  async kill(name: string): Promise<void> {
    await this.sh(`ip -n ${name} link set eth0 down`)
    await this.unserve(name)
  }

  async unserve(name: string): Promise<void> {
    await this.sh(`kill -9 ${this.#servers.get(name)}`)
  }

  async monitor(times: Readonly<Record<string, number>>): Promise<void> {
    await this.give('healthMonitor', { id: 'hm', kind: 'tcp', ...times, adminUp: true })
    await this.ask('PATCH', '/v1/balancerPool/web', { healthMonitor: 'hm' })
  }

  /** Waits until a member is of this status; says what it is in the end. */
  async awaitStatus(name: string, wanted: string): Promise<unknown> {
    for (let tries = 0; ; tries++) {
      const member = await this.ask('GET', `/v1/poolMember/${name}`)
      const status = typeof member === 'object' && member && Reflect.get(member, 'status')
      if (status === wanted || tries >= 150) return status
      await sleep(200)
    }
  }

  status(name: string, status: 'active' | 'inactive'): Promise<unknown> {
    return this.ask('PATCH', `/v1/poolMember/${name}`, { status })
  }

  /** Who answered so many connections. */
  async poll(station: string, count: number): Promise<readonly string[]> {
    const said = await this.in(station, `${process.execPath} ${child} poll ${vip} 80 ${count}`)
    return said.trim().split(/ (?!E)/)
  }

  get #stopFile(): string {
    return `${this.dir}/hush`
  }

  /** Sockets that go on talking until they are told to stop; resolves when all have begun. */
  async talk(over: 'tcp' | 'udp', count: number): Promise<readonly Talk[]> {
    rmSync(this.#stopFile, { force: true })
    const args = ['netns', 'exec', 'c', process.execPath, child, 'talk', over, vip, '80']
    const talks = Array.from({ length: count }, () =>
      heard(this.spawn('ip', ...args, this.#stopFile)),
    )
    await Promise.all(talks.map(({ began }) => began))
    return talks
  }

  /** Who answered each of the sockets' messages. */
  async hush(talks: readonly Talk[]): Promise<readonly (readonly string[])[]> {
    writeFileSync(this.#stopFile, '')
    const texts = await Promise.all(talks.map(({ ended }) => ended))
    return texts.map((text) => text.trim().split(' '))
  }
}

interface Talk {
  readonly began: Promise<unknown>
  readonly ended: Promise<string>
}

function heard({ stdout }: ChildProcess): Talk {
  let text = ''
  stdout?.on('data', (chunk) => {
    text += chunk
  })
  if (stdout === null) return { began: Promise.resolve(), ended: Promise.resolve('') }
  return { began: once(stdout, 'data'), ended: once(stdout, 'close').then(() => text) }
}

function countOf(answers: readonly string[], name: string): number {
  return answers.filter((one) => one === name).length
}

/** Declares the tests. */
export function testBalance(test: TestFn, { datapath, open }: BalanceOptions): void {
  let stage: BalanceStage
  test.before(async (t) => {
    t.timeout(300_000)
    stage = new BalanceStage(await open(), datapath)
    await stage.furnish()
  })
  test.after.always(async () => {
    await stage?.close()
  })

  test.serial('connections are shared out, and members see their client', async (t) => {
    t.timeout(120_000)
    const answers = await stage.poll('c', 24)
    t.is(countOf(answers, 'a') + countOf(answers, 'b'), 24, answers.join())
    t.true(countOf(answers, 'a') > 3 && countOf(answers, 'b') > 3, answers.join())
    t.regex(await ping(stage, 'c', vip), /3 packets received/)
    for (const over of ['tcp', 'udp'] as const)
      await withPort(stage, 8081, async () =>
        t.is(await ask(stage, 'c', { over, to: `${vip}:80` }), 'from 10.2.0.2 got 5\n'),
      )
  })

  test.serial('a client beside the members, and a member itself', async (t) => {
    t.timeout(120_000)
    for (const station of ['d', 'a']) {
      const answers = await stage.poll(station, 12)
      t.is(countOf(answers, 'a') + countOf(answers, 'b'), 12, answers.join())
    }
  })

  test.serial('a sticky client stays with one member', async (t) => {
    t.timeout(120_000)
    await stage.ask('PATCH', '/v1/vip/tcp', { persistence: 'sourceIp' })
    const answers = await stage.poll('c', 12)
    await stage.ask('PATCH', '/v1/vip/tcp', { persistence: 'none' })
    t.is(new Set(answers).size, 1, answers.join())
    t.regex(answers[0] ?? '', /^[ab]$/)
  })

  test.serial('a health monitor finds who serves and who does not', async (t) => {
    t.timeout(120_000)
    await stage.monitor({ delaySeconds: 1, timeoutSeconds: 1, maxRetries: 2 })
    t.is(await stage.awaitStatus('a', 'active'), 'active')
    await stage.unserve('b')
    t.is(await stage.awaitStatus('b', 'inactive'), 'inactive')
    t.deepEqual(new Set(await stage.poll('c', 8)), new Set(['a']))
    await stage.serve('b')
    t.is(await stage.awaitStatus('b', 'active'), 'active')
    await stage.ask('PATCH', '/v1/balancerPool/web', { healthMonitor: null })
  })

  test.serial('a member dies: its connections end fast, the others do not notice', (t) =>
    testDeath(t, stage),
  )

  test.serial('nobody is left: who asks is refused at once', async (t) => {
    t.timeout(120_000)
    await stage.status('b', 'inactive')
    const startMs = Date.now()
    t.deepEqual(await stage.poll('c', 1), ['error ECONNREFUSED'])
    t.true(Date.now() - startMs < 10_000, 'refused, not given up')
    const [words] = await stage.hush(await stage.talk('udp', 1))
    t.deepEqual(words?.slice(-2), ['error', 'ECONNREFUSED'])
    await stage.status('b', 'active')
    t.deepEqual(await stage.poll('c', 3), ['b', 'b', 'b'])
  })
}

/** Members that serve at another port meanwhile. */
async function withPort(stage: Stage, port: number, work: () => Promise<unknown>): Promise<void> {
  for (const name of Object.keys(members))
    await stage.ask('PATCH', `/v1/poolMember/${name}`, { port })
  await work()
  for (const name of Object.keys(members))
    await stage.ask('PATCH', `/v1/poolMember/${name}`, { port: 8080 })
}

async function testDeath(t: ExecutionContext, stage: BalanceStage): Promise<void> {
  t.timeout(120_000)
  const talks = await stage.talk('tcp', 8)
  const datagrams = await stage.talk('udp', 6)
  await sleep(1000)
  await stage.kill('a')
  await stage.status('a', 'inactive')
  await sleep(5000)
  const said = await stage.hush(talks)
  const answers = await stage.hush(datagrams)
  const [lost, kept] = [said.filter((one) => one.includes('a')), said.filter(isKept)]
  t.true(lost.length > 0 && kept.length > 0, said.map((one) => one.join('')).join())
  for (const words of lost) t.is(words.slice(-2).join(' '), 'error ECONNRESET', words.join(' '))
  // A loaded machine may answer late; another answer, or an end, must not come.
  for (const words of kept) {
    t.true(words.slice(-20).includes('b'), words.join(' '))
    t.is(countOf(words, 'b') + countOf(words, '-'), words.length, words.join(' '))
  }
  t.true(
    answers.some((one) => one.includes('a')),
    answers.map((one) => one.join('')).join(),
  )
  for (const words of answers) {
    t.true(words.slice(-20).includes('b'), words.join(' '))
    t.false(words.slice(-20).includes('a'), words.join(' '))
  }
  t.deepEqual(new Set(await stage.poll('c', 12)), new Set(['b']))
}

/** A connection that its first member has kept all the time. */
function isKept(words: readonly string[]): boolean {
  return words.includes('b') && !words.includes('a')
}
