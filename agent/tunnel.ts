/** Tunnel interfaces of this host: one for each kind and UDP port that its zones use. */
import { LinkError } from '../datapath/link.ts'
import type { NetlinkSocket } from '../datapath/netlink.ts'
import { pathMtu6 } from '../datapath/path-mtu.ts'
import { listLinks, openLinks } from '../datapath/rtnetlink.ts'
import { ensureTunnelDevice } from '../datapath/tunnel-device.ts'
import type { TunnelDevices } from '../simulator/tunnels.ts'

/** Names of our tunnel interfaces, and of no others. */
const ours = /^mt-(vxlan|gre|geneve)\d{0,5}$/

/** The kernel's, over a socket of the calling thread. */
export function tunnelDevices(links: NetlinkSocket): TunnelDevices {
  return {
    ensure: (name, need) => ensureTunnelDevice(links, { name, ...need }),
    remove: removeTunnel,
    list: () =>
      listLinks(links)
        .map(({ name }) => name)
        .filter((name) => ours.test(name)),
    pathMtu: (address) => (typeof address === 'bigint' ? pathMtu6(links, address) : 0),
  }
}

/** Removes what agents before have left. */
export function removeTunnels(): void {
  const links = openLinks()
  try {
    for (const { name } of links.list()) if (ours.test(name)) removeTunnel(name)
  } finally {
    links.close()
  }
}

function removeTunnel(name: string): void {
  const links = openLinks()
  try {
    links.remove(name)
  } catch (error) {
    if (!(error instanceof LinkError) || error.code !== 'ENODEV') throw error
  } finally {
    links.close()
  }
}
