/**
 * Runs in a guest (test/vm): our whole agent on the kernel module's datapath. A test plays Docker
 * at the plugin's socket; containers are network namespaces.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { dockerId } from '../driver/agent.ts'
import { GuestHost, ping, run } from './guest-host.ts'

const host = new GuestHost()
const [red, blue] = [dockerId(1), dockerId(2)]

test.before(async (t) => {
  t.timeout(500_000)
  await host.start()
  await host.network(red, '10.1.0.0/24')
  await host.network(blue, '10.2.0.0/24')
  await host.container('red1', red, 0x11, '10.1.0.2/24')
  await host.container('red2', red, 0x12, '10.1.0.3/24')
  await host.container('blue1', blue, 0x13, '10.2.0.2/24')
})

test.after.always(async () => {
  await host.stop('SIGTERM')
})

test.serial('the kernel module is taken where it is, and the status says why', async (t) => {
  const { datapath } = await host.status()
  t.is(datapath.kind, 'ovs')
  t.regex(datapath.why, /Open vSwitch's module/)
  const told = host.midonet('status')
  t.regex(told, /^datapath ovs: .*\n {2}has meters up to \d+, ct, clone, check_pkt_len/m)
  t.regex(told, /^overruns: 0$/m)
})

test.serial('containers reach each other on a network, across a router, and the router', (t) => {
  t.timeout(120_000)
  t.regex(ping('red1', '10.1.0.3'), /3 packets received/)
  t.regex(ping('red1', '10.2.0.2'), /3 packets received/)
  t.regex(ping('blue1', '10.1.0.3'), /3 packets received/)
  t.regex(ping('red1', '10.1.0.1'), /3 packets received/)
  t.regex(ping('blue1', '10.1.0.77', 1), / 0 packets received/)
})

test.serial('flows do the work, not the agent', async (t) => {
  t.timeout(120_000)
  ping('red1', '10.2.0.2', 1)
  const before = (await host.status()).forwarding.forwarder
  t.regex(ping('red1', '10.2.0.2', 10), /10 packets received/)
  const after = (await host.status()).forwarding.forwarder
  // Neighbours are asked for now and then, which is the agent's to answer.
  t.true(after.packets - before.packets <= 4, `${after.packets - before.packets} packets`)
  t.true(after.flows >= 2)
  t.is(after.lost, 0)
})

test.serial('the flows are there to be seen, in the words of Open vSwitch', (t) => {
  t.timeout(120_000)
  ping('red1', '10.2.0.2', 1)
  const flows = host.midonet('dpctl', 'dump-flows')
  t.regex(flows, /in_port\(\d+\).*eth_type\(0x0800\).*packets:\d+.*actions:.*set\(eth\(/)
  t.regex(host.midonet('dpctl', 'show'), /midonet.*ovs(.|\n)*port \d+: mn/)
})

test.serial('meters and interfaces come and go by hand, too', (t) => {
  t.timeout(120_000)
  const dpctl = (...words: readonly string[]): string => host.midonet('dpctl', ...words)
  const meter = 'meter=4711,kbps,band=type=drop,rate=1000,burst_size=600'
  t.is(dpctl('add-meter', meter), '')
  t.is(dpctl('dump-meters'), `${meter} packets:0 dropped:0`)
  t.is(dpctl('del-meter', 'meter=4711'), '')
  t.is(dpctl('dump-meters'), '')
  t.regex(dpctl('add-if', 'tun0,type=vxlan,dst_port=4790'), /^port \d+: tun0$/)
  t.regex(run('ip', '-d', 'link', 'show', 'tun0'), /vxlan external .*dstport 4790/)
  t.regex(dpctl('dump-ports'), /^port \d+: tun0$/m)
  t.is(dpctl('del-if', 'tun0'), '')
  t.notRegex(dpctl('dump-ports'), /tun0/)
  t.regex(dpctl('add-if', 'tun0,type=ipip'), /add-if takes an interface/)
})

test.serial('a killed agent loses no packet, and the next one takes its flows over', async (t) => {
  t.timeout(300_000)
  // Neighbours known for long: the kernel module answers no ARP request, so none is due meanwhile.
  for (const name of ['red1', 'blue1'])
    for (const key of ['base_reachable_time_ms', 'delay_first_probe_time'])
      run('ip', 'netns', 'exec', name, 'sysctl', '-w', `net.ipv4.neigh.eth0.${key}=600000`)
  t.regex(ping('red1', '10.2.0.2'), /3 packets received/)
  const pinging = spawn('ip', 'netns exec red1 busybox ping -i 1 -c 10000 10.2.0.2'.split(' '), {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  pinging.stdout.on('data', (chunk) => {
    output += chunk
  })
  const ended = once(pinging, 'exit')
  await sleep(2000)
  await host.stop('SIGKILL')
  await sleep(2000)
  await host.start()
  await sleep(2000)
  spawnSync('busybox', ['kill', '-INT', `${pinging.pid}`])
  await Promise.race([ended, sleep(10_000)])
  const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(output) ?? []
  t.true(Number(sent) >= 5, output)
  t.is(received, sent)
  const { flows } = (await host.status()).forwarding.forwarder
  t.true(flows >= 2, `${flows} flows adopted`)
})
