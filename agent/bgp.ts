/** BGP of this host's gateways: the parts of the kernel that it needs, and who else is reachable. */
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Links } from '../datapath/link.ts'
import { inNamespace } from '../datapath/namespace.ts'
import { openRouteMonitor } from '../datapath/route-monitor.ts'
import { openLinks } from '../datapath/rtnetlink.ts'
import { settingFile } from '../datapath/sysctl.ts'
import type { NamespaceView } from '../gateway/bgp/instance.ts'
import { bgpProtocol } from '../gateway/bgp/learned.ts'
import { namespaceSettings } from '../gateway/bgp/namespace.ts'
import { Speakers } from '../gateway/bgp/speakers.ts'
import type { Store } from '../topology/store.ts'
import type { Settings } from './settings.ts'

const limits = {
  /** Other hosts that are asked at once, and how long they have. */
  asked: 8,
  answerMs: 1_500,
} as const

/** Where routing daemons keep what is theirs. */
export function bgpFolder(settings: Pick<Settings, 'runDir'>): string {
  return join(settings.runDir, 'bgp')
}

/** Has a routing daemon speak for each router with an AS number that has a port on this host. */
export function startSpeakers(
  settings: Settings,
  host: { readonly id: string; readonly store: Store; readonly links: Links },
): Speakers {
  return new Speakers({
    store: host.store,
    links: host.links,
    hostId: host.id,
    runDir: bgpFolder(settings),
    routesMax: settings.bgpRoutes,
    look: lookInto,
    reachesOthers: () => reachesOthers(host.store, host.id),
  })
}

function lookInto(path: string): NamespaceView {
  const links = inNamespace(path, () => {
    for (const [setting, value] of namespaceSettings) writeSetting(setting, value)
    return openLinks()
  })
  const monitor = openRouteMonitor(path, bgpProtocol)
  return {
    links,
    monitor,
    close() {
      links.close()
      monitor.close()
    },
  }
}

function writeSetting(setting: string, value: string): void {
  try {
    writeFileSync(settingFile(setting), value)
  } catch {
    // A kernel without IPv6 has fewer of them.
  }
}

/**
 * Whether any other host answers on the underlay: a refused connection is an answer. A host that is
 * alone has nobody to lose.
 */
async function reachesOthers(store: Store, host: string): Promise<boolean> {
  const others = store
    .list('zoneMember')
    .filter((member) => member.host !== host)
    .map(({ address }) => address)
  const asked = [...new Set(others)].slice(0, limits.asked)
  if (asked.length === 0) return true
  return (await Promise.all(asked.map(answers))).includes(true)
}

/** The port does not matter: nobody listens at TCP port 1. */
function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: 1 })
    const end = (answered: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(answered)
    }
    const timer = setTimeout(() => end(false), limits.answerMs)
    socket.once('connect', () => end(true))
    socket.once('error', (error) => end('code' in error && error.code === 'ECONNREFUSED'))
  })
}
