/** The ports of a bridge as they come, go and lose what is behind them. */
import type { MacEntry } from './bridge.ts'
import { forgetMac, noteDevice } from './facts.ts'
import type { VirtualBridgePort } from './port.ts'
import type { Tag } from './tag.ts'

/** Puts a new port among its bridge's, in the order of ids. */
export function joinBridge(port: VirtualBridgePort, tags: Tag[]): void {
  const { bridge } = port
  insertById(bridge.ports, port)
  // The first with a VLAN makes the bridge read tags.
  if (port.vlan !== 0 && ++bridge.accessPorts === 1) noteDevice(bridge, tags)
  tags.push(bridge.floodTag)
}

export function leaveBridge(port: VirtualBridgePort, tags: Tag[]): void {
  const { bridge } = port
  forgetBehind(port, () => true, tags)
  bridge.ports.splice(bridge.ports.indexOf(port), 1)
  if (port.vlan !== 0 && --bridge.accessPorts === 0) noteDevice(bridge, tags)
  tags.push(bridge.floodTag)
}

/** Forgets what was learned behind a port that leads nowhere now: it may be elsewhere. */
export function forgetLearned(port: VirtualBridgePort, tags: Tag[]): void {
  if (port.bridge.learnedMacs > 0) forgetBehind(port, ({ learned }) => learned, tags)
}

function forgetBehind(
  port: VirtualBridgePort,
  goes: (entry: MacEntry) => boolean,
  tags: Tag[],
): void {
  const gone: MacEntry[] = []
  for (const entry of port.bridge.macs.values())
    if (entry.port === port && goes(entry)) gone.push(entry)
  for (const entry of gone) forgetMac(entry, tags)
}

function insertById(ports: VirtualBridgePort[], port: VirtualBridgePort): void {
  let low = 0
  let high = ports.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ports[middle]?.id ?? '') < port.id) low = middle + 1
    else high = middle
  }
  ports.splice(low, 0, port)
}
