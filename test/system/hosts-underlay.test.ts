/** Two hosts that reach each other over IPv6, by packets of up to 9000 bytes. */
import test from 'ava'
import { eventually, Hosts } from './hosts.ts'
import { address6Of, addressOf, furnishHosts, type Station } from './hosts-world.ts'
import { ensurePackages } from './packages.ts'
import { slowness } from './stage.ts'

/** 9000 less IPv6, UDP, VXLAN and the inner Ethernet header. */
const mtu = 8930
const stationChild = new URL('./station-child.js', import.meta.url).pathname
const stations: readonly Station[] = [
  { name: 'a', host: 0, bridge: 'red', n: 2 },
  { name: 'b', host: 1, bridge: 'red', n: 3 },
  { name: 'e', host: 1, bridge: 'blue', n: 6 },
]
const [a, b, e] = stations
let hosts: Hosts

test.before(async (t) => {
  t.timeout(120_000 * slowness)
  ensurePackages()
  hosts = await Hosts.open({ count: 2, mtu: 9000, family: 6 })
  await furnishHosts(hosts, mtu, stations)
})

test.after.always(async () => {
  await hosts?.close()
})

test.serial('the members of the zone have addresses of IPv6', async (t) => {
  const said = JSON.stringify(await hosts.stage(0).ask('GET', '/v1/zoneMember'))
  t.regex(said, /"address":"fd77::1"/)
  t.regex(said, /"address":"fd77::2"/)
})

test.serial('stations reach each other, also by the largest packets that fit', async (t) => {
  t.timeout(60_000 * slowness)
  if (a === undefined || b === undefined || e === undefined) return t.fail()
  for (const to of [b, e])
    for (const [address, header] of [
      [addressOf(to), 28],
      [address6Of(to), 48],
    ] as const)
      for (const size of [56, mtu - header]) {
        const script = `busybox ping -c 1 -W 1 -s ${size} ${address}`
        const isReached = async () => / 1 packets received/.test(await hosts.in('a', script))
        t.true(await eventually(isReached), `${size} bytes to ${address}`)
      }
})

test.serial('TCP both ways', async (t) => {
  t.timeout(60_000 * slowness)
  if (a === undefined || e === undefined) return t.fail()
  for (const { name } of [a, e])
    await hosts.serve(name, process.execPath, stationChild, 'serve', '80')
  for (const [from, to] of [
    [a, e],
    [e, a],
  ] as const) {
    const script = `${process.execPath} ${stationChild} tcp ${addressOf(to)} 80 3000000`
    t.is(await hosts.in(from.name, script), `from ${addressOf(from)} got 3000000\n`)
  }
})
