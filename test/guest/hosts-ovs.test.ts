/**
 * Runs in a guest (test/vm): two hosts as network namespaces, each with a datapath and an agent of
 * its own, with the same addresses on both.
 */
import test from 'ava'
import { dockerId } from '../driver/agent.ts'
import { GuestHost, ping, run } from './guest-host.ts'

const hosts = [new GuestHost('side1'), new GuestHost('side2')] as const
const red = dockerId(1)

test.before(async (t) => {
  t.timeout(500_000)
  await Promise.all(hosts.map((host) => host.start()))
  for (const [index, host] of hosts.entries()) {
    const name = index === 0 ? 'a' : 'b'
    await host.network(red, '10.1.0.0/24')
    await host.container(`${name}1`, red, 0x11, '10.1.0.2/24')
    await host.container(`${name}2`, red, 0x12, '10.1.0.3/24')
  }
})

test.after.always(async () => {
  for (const host of hosts) await host.stop('SIGTERM')
})

test.serial('each host has a datapath of its own', async (t) => {
  t.timeout(120_000)
  for (const host of hosts) t.is((await host.status()).datapath.kind, 'ovs')
  const [a, b] = hosts.map((host) => host.midonet('dpctl', 'dump-ports'))
  t.regex(a ?? '', /^port \d+: mn/m)
  t.regex(b ?? '', /^port \d+: mn/m)
})

test.serial('the same addresses on both do not disturb each other', async (t) => {
  t.timeout(200_000)
  t.regex(ping('a1', '10.1.0.3'), /3 packets received/)
  t.regex(ping('b1', '10.1.0.3'), /3 packets received/)
  const before = counted()
  ping('a1', '10.1.0.3', 5)
  const after = counted()
  t.true(after.a - before.a >= 5, `${before.a} ${after.a}`)
  t.true(after.b - before.b <= 2, 'a packet of one host came to the other')
})

test.serial('one host goes on while the other’s agent is dead', async (t) => {
  t.timeout(300_000)
  await hosts[0].stop('SIGKILL')
  await hosts[1].container('b3', red, 0x13, '10.1.0.4/24')
  t.regex(ping('b3', '10.1.0.3'), /3 packets received/)
  t.regex(ping('a1', '10.1.0.3'), /3 packets received/, 'its kernel goes on')
  await hosts[0].start()
  t.regex(ping('a2', '10.1.0.2'), /3 packets received/)
  const { flows } = (await hosts[0].status()).forwarding.forwarder
  t.true(flows >= 2, `${flows} flows adopted`)
})

/** Packets that the second container of each host has received. */
function counted(): { readonly a: number; readonly b: number } {
  const received = (name: string): number => {
    const shown = run('ip', '-n', name, '-s', '-j', 'link', 'show', 'eth0')
    return JSON.parse(shown)[0].stats64.rx.packets
  }
  return { a: received('a2'), b: received('b2') }
}
