/**
 * VLANs, mirrors and services on the way with real sockets: an agent on some datapath, Linux network
 * namespaces as stations, a Linux bridge with spanning trees as the switch outside.
 *
 *   a, b ── red ── VLAN 7 ┐        ┌ trunk t1 ══ eth1 ┐                 ┌ VLAN 7 ══ x
 *      c ── blue ─ VLAN 8 ┴─ gate ─┴ trunk t2 ══ eth2 ┴ br0 ══ t3 ─ far ┴ VLAN 8 ══ y
 *                                              namespace sw
 *   sink ── tap: gets copies
 *   side: in and out ══ eth0, eth1 of a bridge in namespace fw, which filters what it passes on
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { TestFn } from 'ava'
import { type Machine, type Named, Stage } from './stage.ts'
import { furnishWorld, WorldError, type WorldSpec } from './stage-world.ts'
import { ask, serve } from './station.ts'

export interface L2Options {
  readonly datapath: string
  readonly open: () => Promise<Machine>
}

const world: WorldSpec = {
  bridges: { red: {}, blue: {}, gate: {}, far: {}, tap: {}, side: {} },
  stations: {
    a: { bridge: 'red', address: '10.1.0.2/24', inbound: 'from-a', outbound: 'to-a' },
    b: { bridge: 'red', address: '10.1.0.3/24' },
    c: { bridge: 'blue', address: '10.8.0.2/24' },
    x: { bridge: 'far', address: '10.1.0.9/24', vlan: 7 },
    y: { bridge: 'far', address: '10.8.0.9/24', vlan: 8 },
    sink: { bridge: 'tap', address: '10.99.0.2/24' },
  },
  chains: { 'from-a': [], 'to-a': [], 'from-in': [], 'from-out': [] },
}

/** A Linux bridge of `ports` in a namespace, the other ends of which are `v` and their names. */
function bridgeScript(name: string, ports: readonly string[], settings: string): string {
  return `set -e
ip netns add ${name}
ip netns exec ${name} sh -c "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"
ip -n ${name} link add br0 type bridge ${settings}
ip -n ${name} link set br0 up
for port in ${ports.join(' ')}; do
  ip link add v$port type veth peer name $port netns ${name}
  ip link set v$port up
  ip -n ${name} link set $port master br0 up
done
`
}

/** The shortest times that spanning trees may have. */
const spanning = 'stp_state 1 forward_delay 200 hello_time 100 max_age 600'
/** What the service lets nobody do. */
const forbidden = `
ip netns exec fw nft -f - <<END
table bridge f {
  chain c { type filter hook forward priority 0; vlan id 10 tcp dport 81 drop; }
}
END
`

class L2Stage extends Stage {
  #host = ''
  #dumps = 0

  async furnish(): Promise<void> {
    await furnishWorld(this, world)
    const hosts = await this.ask('GET', '/v1/host')
    this.#host = String(Array.isArray(hosts) ? hosts[0]?.id : '')
    const switching = bridgeScript('sw', ['t1', 't2', 't3'], spanning)
    const service = bridgeScript('fw', ['in', 'out'], '') + forbidden
    for (const script of [switching, service]) {
      const said = await this.sh(script)
      if (said !== '') throw new WorldError(`${script}: ${said}`)
    }
    await this.putAll([
      ...this.#link('red', 7),
      ...this.#link('blue', 8),
      ...this.#port('t1', { bridge: 'gate' }),
      ...this.#port('t2', { bridge: 'gate' }),
      ...this.#port('t3', { bridge: 'far' }),
      ...this.#port('in', { bridge: 'side', inboundChain: 'from-in' }),
      ...this.#port('out', { bridge: 'side', inboundChain: 'from-out' }),
    ])
  }

  async putAll(objects: readonly (readonly [kind: string, value: Named])[]): Promise<void> {
    const operations = objects.map(([kind, value]) => ({ op: 'put', kind, id: value.id, value }))
    const answer = await this.ask('POST', '/v1/transaction', { operations })
    if (typeof answer === 'object' && answer !== null && 'code' in answer)
      throw new WorldError(JSON.stringify(answer))
  }

  /** A rule of one of the chains, at its first position. */
  rule(chain: string, position: number, rule: object): Promise<unknown> {
    return this.put('rule', { id: `${chain}-${position}`, chain, position, ...rule })
  }

  #link(tenant: string, vlan: number): readonly (readonly [string, Named])[] {
    const [inner, outer] = [`${tenant}-gate`, `gate-${tenant}`]
    const port = { kind: 'bridge', adminUp: true }
    return [
      ['port', { ...port, id: inner, bridge: tenant, peer: outer }],
      ['port', { ...port, id: outer, bridge: 'gate', peer: inner, vlan }],
    ]
  }

  #port(id: string, fields: object): readonly (readonly [string, Named])[] {
    return [
      ['port', { id, kind: 'bridge', adminUp: true, ...fields }],
      ['binding', { id, host: this.#host, interface: `v${id}` }],
    ]
  }

  /** What spanning trees have made of the switch's trunks: `forwarding blocking`. */
  async states(): Promise<string> {
    const states = await this.sh(
      'for n in 1 2; do ip netns exec sw cat /sys/class/net/t$n/brport/state; done',
    )
    const names = ['disabled', 'listening', 'learning', 'forwarding', 'blocking']
    return states
      .trim()
      .split(/\s+/)
      .map((number) => names[Number(number)] ?? number)
      .join(' ')
  }

  /** Waits until `reached` holds of what `look` finds, at most so many seconds. */
  async until(seconds: number, look: () => Promise<string>, reached: RegExp): Promise<string> {
    let found = await look()
    for (let left = seconds * 4; left > 0 && !reached.test(found); left--) {
      await sleep(250)
      found = await look()
    }
    return found
  }

  /** What station `sink` gets while `work` is done, as tcpdump prints it. */
  async copies(filter: string, work: () => Promise<unknown>): Promise<string> {
    const file = `${this.dir}/copies-${++this.#dumps}`
    const dump = `echo $$ >${file}.pid; exec tcpdump -i eth0 -n --immediate-mode -U -w ${file} ${filter} 2>/dev/null`
    this.spawn('ip', 'netns', 'exec', 'sink', 'sh', '-c', dump)
    // It writes the head of the file once it listens.
    await this.until(20, () => this.sh(`stat -c %s ${file}`), /^24$/m)
    await work()
    await sleep(500)
    // What it was started through is not it itself.
    await this.sh(`kill $(cat ${file}.pid)`)
    await sleep(200)
    return this.sh(`tcpdump -n -e -r ${file} 2>/dev/null`)
  }
}

const oneBlocks = /^(forwarding blocking|blocking forwarding)$/
const received = /1 packets received/

function ping(stage: Stage, station: string, to: string, seconds = 5): Promise<string> {
  return stage.in(station, `busybox ping -c 1 -w ${seconds} ${to}`)
}

/** Declares the tests. */
export function testL2(test: TestFn, { datapath, open }: L2Options): void {
  let stage: L2Stage
  test.before(async (t) => {
    t.timeout(300_000)
    stage = new L2Stage(await open(), datapath)
    await stage.furnish()
  })
  test.after.always(async () => {
    await stage?.close()
  })

  test.serial(
    'the switch sees its own spanning tree by the other trunk, and blocks one',
    async (t) => {
      t.timeout(120_000)
      t.regex(await stage.until(60, () => stage.states(), oneBlocks), oneBlocks)
      // Were both to forward, the first broadcast would go round for ever.
      const frames = 'cat /sys/class/net/vt1/statistics/rx_packets'
      await stage.in('a', 'busybox arping -c 1 -w 1 -I eth0 10.1.0.77')
      const before = Number(await stage.sh(frames))
      await sleep(2_000)
      const during = Number(await stage.sh(frames)) - before
      t.true(during < 200, `${during} frames in two seconds`)
    },
  )

  test.serial('tenants reach their VLANs behind the switch, and not each other', async (t) => {
    t.timeout(120_000)
    t.regex(await ping(stage, 'a', '10.1.0.9'), received)
    t.regex(await ping(stage, 'c', '10.8.0.9'), received)
    await stage.sh('ip -n a addr add 10.8.0.3/24 dev eth0')
    t.regex(await stage.in('a', 'busybox ping -c 1 -w 2 -I 10.8.0.3 10.8.0.2'), /100% packet loss/)
    await stage.sh('ip -n a addr del 10.8.0.3/24 dev eth0')
    await serve(stage, 'x', 8100)
    t.is(
      await ask(stage, 'b', { over: 'tcp', to: '10.1.0.9:8100', bytes: 300_000 }),
      'from 10.1.0.3 got 300000\n',
    )
  })

  test.serial('when a trunk goes, traffic goes by the other one', async (t) => {
    t.timeout(120_000)
    const [first] = (await stage.states()).split(' ')
    const used = first === 'forwarding' ? 1 : 2
    t.regex(await ping(stage, 'a', '10.1.0.9'), received)
    await stage.sh(`ip -n sw link set t${used} down`)
    // Until then its address is taken for being behind the dead trunk: 15 s of silence end that.
    for (const [from, to] of [
      ['a', '10.1.0.9'],
      ['c', '10.8.0.9'],
    ] as const)
      t.regex(await stage.until(40, () => ping(stage, from, to, 1), received), received)
    await stage.sh(`ip -n sw link set t${used} up`)
    // It takes over again, after a pause: what comes by whichever trunk is learned at once.
    await sleep(5_000)
    t.regex(await stage.until(60, () => stage.states(), oneBlocks), oneBlocks)
    const back = () => ping(stage, 'x', '10.1.0.2', 1)
    t.regex(await stage.until(20, back, received), received)
  })

  test.serial('mirrors: before a filter and behind it, with conditions', async (t) => {
    t.timeout(120_000)
    const device = { kind: 'port', id: 'a' }
    const conditions = [{ protocol: { is: 17 } }]
    const drop = { condition: { dstPorts: { is: { first: 23, last: 23 } } } }
    await serve(stage, 'b', 7300)
    await stage.rule('from-a', 1, { ...drop, action: { kind: 'drop' } })
    const send = (port: number) => () => ask(stage, 'a', { over: 'udp', to: `10.1.0.3:${port}` })
    await stage.put('mirror', { id: 'm', device, point: 'preIn', conditions, toPort: 'sink' })
    t.regex(await stage.copies('udp', send(23)), /10\.1\.0\.2\.\d+ > 10\.1\.0\.3\.23: /)
    await stage.put('mirror', { id: 'm', device, point: 'postIn', conditions, toPort: 'sink' })
    t.is(await stage.copies('udp', send(23)), '')
    let answer = ''
    const seen = await stage.copies('udp or icmp', async () => {
      await ping(stage, 'a', '10.1.0.3')
      answer = await ask(stage, 'a', { over: 'udp', to: '10.1.0.3:7300' })
    })
    t.is(answer, 'from 10.1.0.2 got 5\n')
    t.regex(seen, /10\.1\.0\.2\.\d+ > 10\.1\.0\.3\.7300: UDP, length 5/)
    t.notRegex(seen, /ICMP/)
    await stage.ask('DELETE', '/v1/mirror/m')
    await stage.ask('DELETE', '/v1/rule/from-a-1')
  })

  test.serial('a mirror of a trunk keeps the tags', async (t) => {
    t.timeout(120_000)
    const device = { kind: 'bridge', id: 'gate' }
    await stage.put('mirror', { id: 'm', device, point: 'preIn', toPort: 'sink' })
    const seen = await stage.copies('vlan 7 and icmp', () => ping(stage, 'a', '10.1.0.9'))
    t.regex(seen, /vlan 7, .* 10\.1\.0\.2 > 10\.1\.0\.9: ICMP echo request/)
    t.regex(seen, /vlan 7, .* 10\.1\.0\.9 > 10\.1\.0\.2: ICMP echo reply/)
    await stage.ask('DELETE', '/v1/mirror/m')
  })

  test.serial('a service on the way sees both directions, and decides', async (t) => {
    t.timeout(120_000)
    await serve(stage, 'b', 80)
    await serve(stage, 'b', 81)
    const there = { kind: 'redirect', port: 'in', direction: 'out', failOpen: true, pushVlan: 10 }
    const back = { kind: 'redirect', port: 'out', direction: 'out', failOpen: true }
    await stage.rule('from-a', 2, { action: there })
    await stage.rule('to-a', 2, { action: back })
    const on = { kind: 'redirect', port: 'a' }
    await stage.rule('from-out', 1, { action: { ...on, direction: 'in', popVlan: true } })
    await stage.rule('from-in', 1, { action: { ...on, direction: 'out' } })
    t.regex(await ping(stage, 'a', '10.1.0.3'), received)
    t.is(
      await ask(stage, 'a', { over: 'tcp', to: '10.1.0.3:80', bytes: 300_000 }),
      'from 10.1.0.2 got 300000\n',
    )
    t.is(await ask(stage, 'a', { over: 'tcp', to: '10.1.0.3:81' }), 'silence\n')
    await stage.sh('ip -n fw link set br0 down')
    t.regex(await ping(stage, 'a', '10.1.0.3', 1), /100% packet loss/)
    await stage.sh('ip -n fw link set br0 up')
  })

  test.serial('a service that is gone: open passes, closed drops', async (t) => {
    t.timeout(120_000)
    await stage.sh('ip link del vin; ip link del vout')
    const tried = () => ping(stage, 'a', '10.1.0.3', 1)
    t.regex(await stage.until(10, tried, received), received)
    t.is(await ask(stage, 'a', { over: 'tcp', to: '10.1.0.3:81' }), 'from 10.1.0.2 got 5\n')
    const closed = { kind: 'redirect', port: 'in', direction: 'out' }
    await stage.rule('from-a', 2, { action: closed })
    t.regex(await tried(), /100% packet loss/)
    await stage.ask('DELETE', '/v1/rule/from-a-2')
    t.regex(await tried(), received)
  })
}
