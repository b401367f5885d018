/** The facts about IPv6 addresses: who has which on a bridge, which neighbours a router knows. */
import type { Words6 } from '../packet/address6.ts'
import type { AddressEntry6, VirtualBridge } from './bridge.ts'
import { limits } from './facts.ts'
import type { VirtualRouterPort } from './router.ts'
import { addressTag, neighborTag, solicitedTag, type Tag } from './tag.ts'

/** Says who has an address on a bridge. */
export function addAddress6(
  bridge: VirtualBridge,
  words: Words6,
  { mac, isRouter }: Pick<AddressEntry6, 'mac' | 'isRouter'>,
  tags: Tag[],
): void {
  const old = bridge.addresses6.get(words)
  const tag = old?.tag ?? addressTag(bridge.id, words)
  bridge.addresses6.set(words, { mac, tag, isRouter })
  if (old === undefined) countSolicited(bridge, words, 1)
  noteAddress6(bridge, words, tag, tags)
}

export function removeAddress6(bridge: VirtualBridge, words: Words6, tags: Tag[]): void {
  const entry = bridge.addresses6.get(words)
  if (entry === undefined) return
  bridge.addresses6.delete(words)
  countSolicited(bridge, words, -1)
  noteAddress6(bridge, words, entry.tag, tags)
}

function countSolicited({ solicited }: VirtualBridge, words: Words6, change: 1 | -1): void {
  const low = words[3] & 0xff_ffff
  const count = (solicited.get(low) ?? 0) + change
  if (count === 0) solicited.delete(low)
  else solicited.set(low, count)
}

/** Routers on the bridge find their next hops among its addresses. */
function noteAddress6(bridge: VirtualBridge, words: Words6, tag: Tag, tags: Tag[]): void {
  tags.push(tag, solicitedTag(bridge.id, words[3] & 0xff_ffff))
  for (const port of bridge.routerPorts) {
    port.six?.nextHops.delete(words)
    tags.push(neighborTag(port.id, words))
  }
}

export function learnNeighbor6(
  port: VirtualRouterPort,
  address: Words6,
  mac: number,
  nowMs: number,
  tags: Tag[],
): void {
  const { six } = port
  if (six === undefined) return
  const old = six.learned.get(address)
  if (old === undefined && six.learned.size >= limits.learnedAddresses) return
  six.learned.set(address, { address, mac, learnedMs: nowMs })
  if (old?.mac === mac) return
  six.nextHops.delete(address)
  tags.push(neighborTag(port.id, address))
}

export function forgetNeighbor6(port: VirtualRouterPort, address: Words6, tags: Tag[]): void {
  if (port.six?.learned.delete(address) !== true) return
  port.six.nextHops.delete(address)
  tags.push(neighborTag(port.id, address))
}
