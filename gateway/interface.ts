/** The kernel's side of an uplink: veth pair, address, routes and settings of its host end. */
import type { Links } from '../datapath/link.ts'
import type { DesiredState, DesiredUplink } from './desired.ts'
import type { Settings } from './host.ts'
import { cidr6Of } from './uplink6.ts'

/** Host ends of uplinks, and nothing else. */
const uplinkName = /^mu[0-9a-f]{11}$/

/** Makes the kernel's links, addresses and routes what they should be; says what it changed. */
export function ensureInterfaces(
  links: Links,
  settings: Settings,
  state: DesiredState,
): readonly string[] {
  const changes = state.uplinks.flatMap((uplink) => ensureUplink(links, settings, uplink))
  const wanted = new Set(state.uplinks.map((uplink) => uplink.interface))
  for (const { name } of links.list()) {
    if (!uplinkName.test(name) || wanted.has(name)) continue
    links.remove(name)
    changes.push(`${name}: removed, no router needs it`)
  }
  return changes
}

/** Removes every uplink from the kernel, with addresses and routes. */
export function removeInterfaces(links: Links): void {
  for (const { name } of links.list()) if (uplinkName.test(name)) links.remove(name)
}

/** The part of an uplink that the datapath needs before it hears of the uplink. */
type Pair = Pick<DesiredUplink, 'interface' | 'datapathInterface' | 'hostMac' | 'mtu'>

/** Makes the veth pair when it is not there, or not whole; says whether it had to. */
export function ensurePair(links: Links, pair: Pair): boolean {
  const found = links.find(pair.interface)
  const other = links.find(pair.datapathInterface)
  if (found !== undefined && other !== undefined && found.mac === pair.hostMac) return false
  // Half a pair, or somebody else's: neither end is of use.
  links.remove(pair.interface)
  links.remove(pair.datapathInterface)
  links.createVeth({
    name: pair.datapathInterface,
    peerName: pair.interface,
    peerMac: pair.hostMac,
    mtu: pair.mtu,
  })
  return true
}

function ensureUplink(links: Links, settings: Settings, uplink: DesiredUplink): string[] {
  const name = uplink.interface
  const changes: string[] = []
  const note = (what: string): void => {
    changes.push(`${name} of router ${uplink.router}: ${what}`)
  }
  if (ensurePair(links, uplink)) note('made')
  ensureMtu(links, uplink, note)
  for (const [setting, value] of interfaceSettings(uplink))
    changes.push(...ensureSetting(settings, setting, value))
  for (const end of [name, uplink.datapathInterface]) {
    if (links.find(end)?.up === true) continue
    links.setUp(end)
    note(`${end} set up`)
  }
  if (!links.addresses().some((held) => held.interface === name && held.cidr === uplink.hostCidr)) {
    links.addAddress(name, uplink.hostCidr)
    note(`address ${uplink.hostCidr} added`)
  }
  ensureAddress6(links, uplink, note)
  ensureRoutes(links, uplink, note)
  return changes
}

function ensureAddress6(links: Links, uplink: DesiredUplink, note: (what: string) => void): void {
  if (uplink.link6 === undefined) return
  const cidr = cidr6Of(uplink.link6.outside)
  const held = links.addresses6()
  if (held.some((one) => one.interface === uplink.interface && one.cidr === cidr)) return
  links.addAddress(uplink.interface, cidr)
  note(`address ${cidr} added`)
}

function ensureMtu(links: Links, uplink: DesiredUplink, note: (what: string) => void): void {
  for (const name of [uplink.interface, uplink.datapathInterface]) {
    if (links.find(name)?.mtu === uplink.mtu) continue
    links.setMtu(name, uplink.mtu)
    note(`MTU of ${name} set to ${uplink.mtu}`)
  }
}

function ensureRoutes(links: Links, uplink: DesiredUplink, note: (what: string) => void): void {
  const held = links.routes().filter((route) => route.interface === uplink.interface)
  for (const dst of uplink.subnets) {
    if (held.some((route) => route.dst === dst && route.gateway === uplink.routerAddress)) continue
    links.setRoute({ dst, gateway: uplink.routerAddress, interface: uplink.interface })
    note(`route to ${dst} set`)
  }
  for (const route of held) {
    // Without a gateway it is the kernel's own, of the link's address.
    if (route.gateway === undefined || uplink.subnets.includes(route.dst)) continue
    links.removeRoute(route)
    note(`route to ${route.dst} removed`)
  }
}

function interfaceSettings({
  interface: name,
  link6,
}: DesiredUplink): readonly (readonly [string, string])[] {
  return [
    // Loose: answers may leave by another interface than the one the question came by.
    [`net/ipv4/conf/${name}/rp_filter`, '2'],
    // For 127.0.0.1 on a published port; the table's guard keeps containers from the host's loopback.
    [`net/ipv4/conf/${name}/route_localnet`, '1'],
    // The router answers nobody who asks for it from an address that is not the link's.
    [`net/ipv4/conf/${name}/arp_announce`, '2'],
    // A container that asks for its own published port gets no advice to go another way.
    [`net/ipv4/conf/${name}/send_redirects`, '0'],
    // No neighbour or router solicitations into a link that has no IPv6.
    [`net/ipv6/conf/${name}/disable_ipv6`, link6 === undefined ? '1' : '0'],
    // Nobody there tells the host anything.
    [`net/ipv6/conf/${name}/accept_ra`, '0'],
  ]
}

function ensureSetting(settings: Settings, path: string, value: string): readonly string[] {
  const found = settings.read(path)
  if (found === undefined || found === value) return []
  settings.write(path, value)
  return [`${path} set to ${value}`]
}
