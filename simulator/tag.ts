/**
 * Names of the facts that flows rest on. A flow carries the tag of every fact its simulation used;
 * when a fact changes, the flows that carry its tag are removed.
 */
import { formatIp, formatMac } from '../packet/address.ts'
import { formatWords6, type Words6 } from '../packet/address6.ts'

export type Tag = string

/** What a port is, belongs to and is bound to. */
export function portTag(id: string): Tag {
  return `port:${id}`
}

/** Which port, if any, a vport of the datapath stands for. */
export function vportTag(vport: number): Tag {
  return `vport:${vport}`
}

export function bridgeTag(id: string): Tag {
  return `bridge:${id}`
}

/** Which ports a flood on the bridge reaches. */
export function floodTag(bridge: string): Tag {
  return `flood:${bridge}`
}

/** Behind which port of the bridge a MAC address is. */
export function macTag(bridge: string, mac: number): Tag {
  return `mac:${bridge}:${formatMac(mac)}`
}

/** An address of either family. */
export type AnyAddress = number | Words6

/** Which MAC address an IP address has on the bridge. */
export function addressTag(bridge: string, address: AnyAddress): Tag {
  return `address:${bridge}:${formatAny(address)}`
}

/** Whether an IPv6 address with these last 24 bits is known on the bridge. */
export function solicitedTag(bridge: string, low: number): Tag {
  return `solicited:${bridge}:${low.toString(16)}`
}

export function routerTag(id: string): Tag {
  return `router:${id}`
}

/** The routes of one destination prefix; prefix `none` stands for having no route at all. */
export function routeTag(router: string, prefix: string): Tag {
  return `route:${router}:${prefix}`
}

/** Which MAC address a next hop has on the link of a router's port. */
export function neighborTag(port: string, address: AnyAddress): Tag {
  return `neighbor:${port}:${formatAny(address)}`
}

/** What DHCP gives to a MAC address on a bridge. */
export function dhcpTag(bridge: string, mac: number): Tag {
  return `dhcp:${bridge}:${formatMac(mac)}`
}

/** A chain and its rules. */
export function chainTag(id: string): Tag {
  return `chain:${id}`
}

/** Which address groups an address is in. */
export function memberTag(address: AnyAddress): Tag {
  return `member:${formatAny(address)}`
}

/** Whether flow state has an entry under a key. */
export function stateTag(
  zone: number,
  src: number | string,
  dst: number | string,
  ports: number,
): Tag {
  return `state:${zone}:${src}:${dst}:${ports}`
}

/** Whether a zone has ports left to give; zone 0 stands for room in all of flow state. */
export function fullTag(zone: number): Tag {
  return `full:${zone}`
}

function formatAny(address: AnyAddress): string {
  return typeof address === 'number' ? formatIp(address) : formatWords6(address)
}
