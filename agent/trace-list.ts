/** What `midonet trace --list` and `--show` print. */
import type { Reader } from '../topology/store.ts'
import { TracePacketError } from './trace-packet.ts'
import type { ToldStories } from './worker.ts'

/** A line for each trace request of the topology, with how many packets it has told here. */
export function listTraces(reader: Reader, { requests }: ToldStories): string {
  const traces = reader.list('traceRequest')
  if (traces.length === 0)
    return "no trace requests; make one: midonet cli -e 'tracerequest create bridge BRIDGE'"
  return traces
    .map(({ id, name, device, limit, enabled }) => {
      const left = requests.find((one) => one.id === id)?.left
      const state = !enabled ? 'disabled' : left === undefined ? 'at its limit' : `${left} left`
      const label = name === undefined ? id : `${id} ${name}`
      return `${label}: ${device.kind} ${device.id}, ${state} of ${limit}`
    })
    .join('\n')
}

/** The id of the trace request with this id or name. @throws TracePacketError when there is none */
export function findTraceRequest(reader: Reader, text: string): string {
  const found = reader.list('traceRequest').find(({ id, name }) => id === text || name === text)
  if (found !== undefined) return found.id
  throw new TracePacketError(`no trace request ${text}; midonet trace --list shows them`)
}

/** Stories one behind the other. */
export function formatStories({ stories }: ToldStories): string {
  if (stories.length === 0) return 'no packet has met the condition here yet'
  return stories.map(({ number, time, text }) => `#${number} ${time}\n${text}`).join('\n\n')
}
