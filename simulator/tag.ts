/**
 * Names of the facts that flows rest on. A flow carries the tag of every fact its simulation used;
 * when a fact changes, the flows that carry its tag are removed.
 */
import { formatIp, formatMac } from '../packet/address.ts'
import { formatWords6, type Words6 } from '../packet/address6.ts'

/**
 * A hash of the fact's name, 30 bits: a number that needs no memory of its own, since a simulation
 * leaves many. Two facts that share a tag only make flows go that need not.
 */
export type Tag = number

/** Nobody outside can choose facts that share a tag. */
const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0

/**
 * What a port is and is bound to, and the bridge or router that it belongs to: what comes to one comes
 * by a port, so these have no tags of their own.
 */
export function portTag(id: string): Tag {
  return named(`port:${id}`)
}

/** Which port, if any, a vport of the datapath stands for. */
export function vportTag(vport: number): Tag {
  return named(`vport:${vport}`)
}

/** Which port of this host a tunnel key names. */
export function tunnelKeyTag(key: number): Tag {
  return named(`tunnel-key:${key}`)
}

/** Whether a tunnel hears a source, and whose it is. */
export function tunnelSourceTag(tunnel: string, source: number): Tag {
  return named(`tunnel-source:${tunnel}:${source}`)
}

/** Which ports a flood on the bridge reaches. */
export function floodTag(bridge: string): Tag {
  return named(`flood:${bridge}`)
}

/** Behind which port of the bridge a MAC address is, in one of its VLANs. */
export function macTag(bridge: string, mac: number, vlan: number): Tag {
  return hashOf(seed ^ macSeed ^ hashText(bridge), Math.floor(mac / 0x1_0000_0000), mac, vlan)
}

/** An address of either family. */
export type AnyAddress = number | Words6

/** Which MAC address an IP address has on the bridge. */
export function addressTag(bridge: string, address: AnyAddress): Tag {
  return named(`address:${bridge}:${formatAny(address)}`)
}

/** Whether an IPv6 address with these last 24 bits is known on the bridge. */
export function solicitedTag(bridge: string, low: number): Tag {
  return named(`solicited:${bridge}:${low.toString(16)}`)
}

/** The routes of one destination prefix; prefix `none` stands for having no route at all. */
export function routeTag(router: string, prefix: string): Tag {
  return named(`route:${router}:${prefix}`)
}

/** Which MAC address a next hop has on the link of a router's port. */
export function neighborTag(port: string, address: AnyAddress): Tag {
  return named(`neighbor:${port}:${formatAny(address)}`)
}

/** What DHCP gives to a MAC address on a bridge. */
export function dhcpTag(bridge: string, mac: number): Tag {
  return named(`dhcp:${bridge}:${formatMac(mac)}`)
}

/** A chain and its rules. */
export function chainTag(id: string): Tag {
  return named(`chain:${id}`)
}

/** What a load balancer's member is to the connections that it has. */
export function serverTag(id: string): Tag {
  return named(`server:${id}`)
}

/** Which member of a pool a new connection would go to. */
export function poolTag(id: string): Tag {
  return named(`pool:${id}`)
}

/** Where a sticky VIP's client goes. */
export function stickTag(vip: string, client: number): Tag {
  return named(`stick:${vip}:${formatIp(client)}`)
}

/** Which address groups an address is in. */
export function memberTag(address: AnyAddress): Tag {
  if (typeof address === 'number') return hashOf(seed ^ memberSeed, address, 0, 0)
  return hashOf(hashOf(seed ^ memberSeed, ...address), ...address)
}

/** Whether flow state has an entry under a key. */
export function stateTag(zone: number, src: number, dst: number, ports: number): Tag {
  return hashOf(seed ^ zone, src, dst, ports)
}

const memberSeed = 0x5851_f42d
const macSeed = 0x7a3c_91e5
const nameSeed = 0x14d1_b2c9

function named(name: string): Tag {
  return hashOf(hashText(name), name.length, 0, 0)
}

function hashText(text: string): number {
  let hash = seed ^ nameSeed
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193)
  return hash
}

function hashOf(a: number, b: number, c: number, d: number, e = 0): number {
  let hash = mix(mix(mix(mix(Math.imul(a, 0x9e37_79b1), b), c), d), e)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  return (hash ^ (hash >>> 13)) >>> 2
}

function mix(hash: number, value: number): number {
  const mixed = Math.imul(hash ^ value, 0xcc9e_2d51)
  return Math.imul(mixed ^ (mixed >>> 15), 0x1b87_3593)
}

/** Whether a zone has ports left to give; zone 0 stands for room in all of flow state. */
export function fullTag(zone: number): Tag {
  return named(`full:${zone}`)
}

function formatAny(address: AnyAddress): string {
  return typeof address === 'number' ? formatIp(address) : formatWords6(address)
}
