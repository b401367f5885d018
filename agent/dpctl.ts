/** `midonet dpctl`: the flows and ports of the datapath, whichever it is, in Open vSwitch's words. */
import type { Datapath, FlowStats, InstalledFlow } from '../datapath/datapath.ts'
import { NetlinkSocket } from '../datapath/netlink.ts'
import { routeProtocol } from '../datapath/rtnetlink.ts'
import { ensureTunnelDevice, type TunnelDevice } from '../datapath/tunnel-device.ts'
import type { DpctlCommand } from '../driver/request.ts'
import { formatActions, formatKey, parseActions, parseKey } from '../packet/text.ts'

/** What was asked for cannot be done; the message says why. */
export class DpctlError extends Error {
  override readonly name = 'DpctlError'
  readonly code = 'DPCTL_REFUSED'
}

/** Does a command and says what it has to tell. @throws DpctlError, DatapathError, TextError */
export function runDpctl(
  datapath: Datapath,
  command: DpctlCommand,
  [first, second]: readonly string[],
): string {
  switch (command) {
    case 'show':
      return show(datapath)
    case 'dump-ports':
      return formatPorts(datapath, '').join('\n')
    case 'dump-flows':
      return [...datapath.flows()].map(formatInstalled).sort().join('\n')
    case 'add-flow':
      if (first === undefined || second === undefined)
        throw new DpctlError("add-flow takes a flow and its actions: 'in_port(1)' 2")
      datapath.install(parseKey(first), parseActions(second))
      return ''
    case 'del-flow':
      return remove(datapath, first)
    case 'dump-meters':
      return formatMeters(datapath)
    case 'add-meter':
      addMeter(datapath, first ?? '')
      return ''
    case 'del-meter':
      datapath.removeMeter(readMeterId(first ?? ''))
      return ''
    case 'add-if':
      return addInterface(datapath, first ?? '')
    case 'del-if':
      removeInterface(datapath, first ?? '')
      return ''
  }
}

function show(datapath: Datapath): string {
  const { flows, masks, upcalls, lost, misses } = datapath.counters()
  return [
    `midonet@${datapath.kind}:`,
    `  lookups: missed:${misses} lost:${lost} upcalls:${upcalls}`,
    `  flows: ${flows}`,
    `  masks: ${masks}`,
    ...formatPorts(datapath, '  '),
  ].join('\n')
}

function formatPorts(datapath: Datapath, indent: string): string[] {
  return datapath
    .ports()
    .toSorted((a, b) => a.number - b.number)
    .map(({ number, name }) => `${indent}port ${number}: ${name}`)
}

function formatMeters(datapath: Datapath): string {
  return datapath
    .meters()
    .toSorted((a, b) => a - b)
    .map((id) => {
      const { rate, seen, dropped } = datapath.meter(id) ?? {}
      const band = rate === undefined ? 'unknown' : `rate=${rate.kbps},burst_size=${rate.burstKb}`
      const counted = seen === undefined ? '' : ` packets:${seen} dropped:${dropped ?? 0}`
      return `meter=${id},kbps,band=type=drop,${band}${counted}`
    })
    .join('\n')
}

const meterForm = /^meter=(\d{1,5}),kbps,band=type=drop,rate=(\d{1,10}),burst_size=(\d{1,10})$/

function addMeter(datapath: Datapath, text: string): void {
  const [, id, rate, burst] = meterForm.exec(text) ?? []
  if (id === undefined || Number(rate) === 0)
    throw new DpctlError(
      "add-meter takes 'meter=7,kbps,band=type=drop,rate=1000,burst_size=600', the rate above 0",
    )
  datapath.setMeter(readMeterId(id), { kbps: Number(rate), burstKb: Number(burst) })
}

function readMeterId(text: string): number {
  const id = Number(text.replace(/^meter=/, ''))
  if (text !== '' && Number.isInteger(id) && id >= 0 && id < 0x1_0000) return id
  throw new DpctlError(`a meter is a number below 65536, not '${text}'`)
}

const interfaceForm = /^([^,/\s]{1,15})(?:,type=(vxlan|gre|geneve))?(?:,dst_port=(\d{1,5}))?$/

/** Takes an interface in; of a tunnel's type it is made first, for all peers. */
function addInterface(datapath: Datapath, text: string): string {
  const [, name, kind, port] = interfaceForm.exec(text) ?? []
  const isPort = port === undefined || (Number(port) > 0 && Number(port) <= 0xffff)
  if (name === undefined || !isPort || (port !== undefined && kind === undefined))
    throw new DpctlError(
      "add-if takes an interface, or one to be made: 'tun0,type=vxlan|gre|geneve,dst_port=4789'",
    )
  const device = tunnelKinds.find((known) => known === kind)
  if (device !== undefined) {
    const links = new NetlinkSocket(routeProtocol)
    try {
      const udp = port === undefined ? {} : { port: Number(port) }
      ensureTunnelDevice(links, { kind: device, name, ...udp })
    } finally {
      links.close()
    }
  }
  return `port ${datapath.addPort(name).number}: ${name}`
}

const tunnelKinds: readonly TunnelDevice['kind'][] = ['vxlan', 'gre', 'geneve']

/** The interface itself stays. */
function removeInterface(datapath: Datapath, name: string): void {
  const port = datapath.ports().find((known) => known.name === name)
  if (port === undefined)
    throw new DpctlError(`${name} is no port of the datapath; dump-ports prints those that are`)
  datapath.removePort(port.number)
}

function formatInstalled({ key, mask, actions, stats }: InstalledFlow): string {
  const done = actions === undefined ? 'unknown' : formatActions(actions)
  const match = formatKey(key, mask)
  return `${match}${match === '' ? '' : ', '}${formatStats(stats)}, actions:${done}`
}

function formatStats({ packets, bytes, idleMs }: FlowStats): string {
  const used = Number.isFinite(idleMs) ? `${(idleMs / 1000).toFixed(3)}s` : 'never'
  return `packets:${packets}, bytes:${bytes}, used:${used}`
}

/** Removes the flow that `dump-flows` prints with this key and mask. */
function remove(datapath: Datapath, text: string | undefined): string {
  if (text === undefined) throw new DpctlError('del-flow takes a flow, as dump-flows prints it')
  const { key, mask } = parseKey(text)
  const wanted = formatKey(key, mask)
  for (const flow of [...datapath.flows()])
    if (formatKey(flow.key, flow.mask) === wanted) {
      datapath.remove(flow.id)
      return ''
    }
  throw new DpctlError(`there is no flow ${wanted}; dump-flows prints those that are`)
}
