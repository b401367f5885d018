/** `midonet dpctl`: the flows and ports of the datapath, whichever it is, in Open vSwitch's words. */
import type { Datapath, FlowStats, InstalledFlow } from '../datapath/datapath.ts'
import { formatActions, formatKey, parseActions, parseKey } from '../packet/text.ts'

export const dpctlCommands = ['show', 'dump-flows', 'dump-ports', 'add-flow', 'del-flow'] as const
export type DpctlCommand = (typeof dpctlCommands)[number]

/** What was asked for cannot be done; the message says why. */
export class DpctlError extends Error {
  override readonly name = 'DpctlError'
  readonly code = 'DPCTL_REFUSED'
}

/** Does a command and says what it has to tell. @throws DpctlError, DatapathError, TextError */
export function runDpctl(
  datapath: Datapath,
  command: DpctlCommand,
  [flow, actions]: readonly string[],
): string {
  switch (command) {
    case 'show':
      return show(datapath)
    case 'dump-ports':
      return formatPorts(datapath, '').join('\n')
    case 'dump-flows':
      return [...datapath.flows()].map(formatInstalled).sort().join('\n')
    case 'add-flow':
      if (flow === undefined || actions === undefined)
        throw new DpctlError("add-flow takes a flow and its actions: 'in_port(1)' 2")
      datapath.install(parseKey(flow), parseActions(actions))
      return ''
    case 'del-flow':
      return remove(datapath, flow)
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
