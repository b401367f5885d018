/**
 * Runs in a guest (test/vm): two network namespaces as hosts, each with a datapath of its own and a
 * station; every kind of tunnel between them.
 *
 *   cA ── station ┌ hostA ┐ 192.168.7.1 ═══ 192.168.7.2 ┌ hostB ┐ station ── cB
 *   10.7.0.1      └───────┘         underlay            └───────┘      10.7.0.2
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'

const child = new URL('./tunnel-host.js', import.meta.url).pathname
const sides = [
  { host: 'hostA', station: 'cA', address: '10.7.0.1' },
  { host: 'hostB', station: 'cB', address: '10.7.0.2' },
] as const

function sh(script: string): string {
  const { status, stdout, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  return status === 0 ? stdout : `${stdout}${stderr} (status ${status})`
}

/** The child in a host's namespace. */
class Host {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(name: string, ...underlay: readonly string[]) {
    const args = ['netns', 'exec', name, process.execPath, child, ...underlay]
    this.#child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const input = this.#child.stdout ?? process.stdin
    this.#lines = createInterface({ input })[Symbol.asyncIterator]()
  }

  /** Tells it what to do. */
  tell(line: string): void {
    this.#child.stdin?.write(`${line}\n`)
  }

  /** What it says next. */
  async hear(): Promise<string> {
    return (await this.#lines.next()).value ?? 'it ended'
  }

  close(): void {
    this.#child.stdin?.end()
  }
}

let [hostA, hostB]: Host[] = []

test.before(async (t) => {
  t.timeout(300_000)
  for (const { host: name, station, address } of sides)
    t.is(
      sh(`ip netns add ${name}; ip netns add ${station}
ip link add station netns ${name} type veth peer name eth0 netns ${station}
ip -n ${name} link set station up; ip -n ${name} link set lo up
ip -n ${station} addr add ${address}/24 dev eth0; ip -n ${station} link set eth0 mtu 1400 up`),
      '',
    )
  t.is(
    sh(`ip link add underlay netns hostA type veth peer name underlay netns hostB
ip -n hostA addr add 192.168.7.1/24 dev underlay; ip -n hostA link set underlay up
ip -n hostB addr add 192.168.7.2/24 dev underlay; ip -n hostB link set underlay up`),
    '',
  )
  hostA = new Host('hostA', '192.168.7.1', '192.168.7.2')
  hostB = new Host('hostB', '192.168.7.2', '192.168.7.1')
  t.deepEqual([await hostA.hear(), await hostB.hear()], ['ready', 'ready'])
})

test.after.always(() => {
  hostA?.close()
  hostB?.close()
})

for (const kind of ['vxlan', 'geneve', 'gre'])
  test.serial(`${kind}: what arrives says its tunnel, and ping and TCP go through`, async (t) => {
    t.timeout(300_000)
    if (hostA === undefined || hostB === undefined) return t.fail()
    hostB.tell(`${kind} listen`)
    hostA.tell(`${kind} run`)
    t.deepEqual([await hostB.hear(), await hostA.hear()], ['listening', 'forwarding'])
    sh('ip netns exec cA busybox ping -c 1 -W 1 10.7.0.2 || true')
    t.regex(
      await hostB.hear(),
      /tunnel\(tun_id=0xabcd,src=192\.168\.7\.1\),.*eth_type\(0x080[06]\).* whole/,
    )
    hostB.tell(`${kind} run`)
    t.is(await hostB.hear(), 'forwarding')
    t.regex(sh('ip netns exec cA busybox ping -c 3 -W 2 10.7.0.2'), /3 packets received/)
    t.regex(sh('ip netns exec cB busybox ping -c 2 -s 1372 -W 2 10.7.0.1'), /2 packets received/)
    const sent = 200_000
    t.is(await transfer(sent), sent)
  })

/** Sends so many bytes from the one station to the other over TCP; says how many arrived. */
async function transfer(sent: number): Promise<number> {
  const server = netcat('cB', '-l', '-p', '80')
  let size = 0
  server.stdout.on('data', (chunk) => {
    size += chunk.length
  })
  const listening = ['netns', 'exec', 'cB', 'ss', '-Hltn', 'sport', '=', '80']
  for (let tries = 0; tries < 100 && spawnSync('ip', listening).stdout.length === 0; tries++)
    await sleep(100)
  const client = netcat('cA', '10.7.0.2', '80')
  client.stdin.write(new Uint8Array(sent))
  for (const end = Date.now() + 30_000; size < sent && Date.now() < end; ) await sleep(50)
  // Neither ends by itself while its input is open.
  for (const child of [client, server]) child.kill('SIGKILL')
  return size
}

function netcat(station: string, ...words: readonly string[]) {
  const args = ['netns', 'exec', station, 'busybox', 'nc', ...words]
  return spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] })
}
