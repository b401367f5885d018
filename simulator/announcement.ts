/** What a router port announces, and when: router advertisements, RFC 4861 section 6.2. */
import { isLinkLocal6, networkOf6 } from '../packet/address6.ts'
import type { RouterAnnouncement } from '../packet/build6.ts'
import { linkMtu } from './link-mtu.ts'
import { isActive, type VirtualPort } from './port.ts'
import type { VirtualRouterPort } from './router.ts'

/** Undefined when the port announces nothing. */
export function announcementOf(port: VirtualRouterPort): RouterAnnouncement | undefined {
  const { six, mac } = port
  const told = six?.advertisement
  if (six === undefined || told === undefined) return undefined
  const prefixes = six.addresses
    .filter(({ words }) => !isLinkLocal6(words[0]))
    .map((own) => ({
      network: networkOf6(own),
      prefixLength: own.prefixLength,
      // RFC 4862: the other half of the address is the station's, 64 bits of it.
      autonomous: told.autonomous && own.prefixLength === 64,
      validSeconds: told.valid,
      preferredSeconds: Math.min(told.preferred, told.valid),
    }))
  return {
    mac,
    lifetimeSeconds: told.lifetime,
    managed: told.managed,
    otherConfiguration: told.otherConfiguration,
    mtu: linkMtu(port),
    prefixes,
  }
}

/** The router ports whose time it is to announce; each is told its next time. */
export function takeDue(ports: Iterable<VirtualPort>, nowMs: number): readonly VirtualRouterPort[] {
  const due: VirtualRouterPort[] = []
  for (const port of ports) {
    if (port.kind !== 'router' || port.six?.advertisement === undefined) continue
    if (nowMs < port.six.advertiseMs || !isActive(port) || !port.router.adminUp) continue
    port.six.advertiseMs = nowMs + spread(port.id, port.six.advertisement.interval * 1000)
    due.push(port)
  }
  return due
}

/** Between three quarters of the interval and all of it: routers of one link must not keep step. */
function spread(id: string, intervalMs: number): number {
  let hash = 0
  for (const letter of id) hash = (Math.imul(hash, 31) + (letter.codePointAt(0) ?? 0)) >>> 0
  return Math.round(intervalMs * (0.75 + (hash % 256) / 1024))
}
