/** Which datapath forwards on this host, and why: told by `midonet status`. */
import { DatapathError } from '../datapath/datapath.ts'
import { findLeft } from '../datapath/ebpf/adopt.ts'
import { detach } from '../datapath/ebpf/attach.ts'
import { openEbpfDatapath } from '../datapath/ebpf/ebpf-datapath.ts'
import { closeMaps } from '../datapath/ebpf/maps.ts'
import { NetlinkSocket } from '../datapath/netlink.ts'
import { openOvsDatapath } from '../datapath/ovs/ovs-datapath.ts'
import { routeProtocol } from '../datapath/rtnetlink.ts'
import type { Settings } from './settings.ts'

export interface OpenedDatapath {
  readonly datapath: ReturnType<typeof openEbpfDatapath | typeof openOvsDatapath>
  readonly why: string
}

const name = 'midonet'

/** @throws DatapathError when the one asked for, or none, can be had */
export function openDatapath(choice: Settings['datapath']): OpenedDatapath {
  if (choice === 'ebpf')
    return { datapath: openEbpfDatapath({ name }), why: `MIDONET_DATAPATH is ${choice}` }
  if (choice === 'ovs') {
    const datapath = openOvsDatapath({ name })
    detachPrograms()
    return { datapath, why: `MIDONET_DATAPATH is ${choice}` }
  }
  if (countPrograms() > 0)
    return {
      datapath: openEbpfDatapath({ name }),
      why: 'an agent before used it here and its flows go on; after `midonet agent --clean` it is chosen anew',
    }
  try {
    return { datapath: openOvsDatapath({ name }), why: "the kernel has Open vSwitch's module" }
  } catch (error) {
    // Another agent's datapath is not one to forward beside.
    if (!(error instanceof DatapathError) || error.code === 'EBUSY') throw error
    return { datapath: openEbpfDatapath({ name }), why: `ovs cannot be had: ${error.message}` }
  }
}

/** Interfaces that still run the eBPF datapath's program: it would have their packets first. */
function countPrograms(): number {
  return withLinks((links) => {
    const { ports, maps } = findLeft(links, name)
    if (maps !== undefined) closeMaps(maps)
    return ports.length
  })
}

function detachPrograms(): void {
  withLinks((links) => {
    const { ports, maps } = findLeft(links, name)
    if (maps !== undefined) closeMaps(maps)
    for (const { index } of ports) detach(links, index, name)
  })
}

function withLinks<T>(run: (links: NetlinkSocket) => T): T {
  const links = new NetlinkSocket(routeProtocol)
  try {
    return run(links)
  } finally {
    links.close()
  }
}
