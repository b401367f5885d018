/**
 * The forwarding worker thread: blocks in the kernel for upcalls, simulates, installs, executes.
 * Everything in it is synchronous; it hears the main thread between two rounds.
 */
import { randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { format } from 'node:util'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import createDebug from 'debug'
import type { Datapath } from '../datapath/datapath.ts'
import { NetlinkSocket } from '../datapath/netlink.ts'
import { routeProtocol } from '../datapath/rtnetlink.ts'
import type { DpctlCommand } from '../driver/request.ts'
import { Forwarder, type ForwarderStatus, type TraceRequestStatus } from '../simulator/forwarder.ts'
import type { MemberHealth } from '../simulator/health.ts'
import type { SharedFact } from '../simulator/sharing.ts'
import type { TraceResult } from '../simulator/trace.ts'
import type { TunnelDevices } from '../simulator/tunnels.ts'
import type { ChangeBatch } from '../topology/store.ts'
import { AppliedMark } from './applied-mark.ts'
import { runDpctl } from './dpctl.ts'
import { type OpenedDatapath, openDatapath } from './open-datapath.ts'
import type { Settings } from './settings.ts'
import { readStateFile, StateFile } from './state-file.ts'
import { tunnelDevices } from './tunnel.ts'

export interface WorkerSettings {
  readonly hostId: string
  readonly flowLimit: number
  readonly datapath: Settings['datapath']
  /** Where connections are written down for the next agent. */
  readonly stateFile: string
}

/** What the worker starts with. */
export interface WorkerData extends WorkerSettings {
  /** The memory of an `AppliedMark`. */
  readonly mark: SharedArrayBuffer
}

/** From the main thread. `snapshot` comes first, once. */
export type WorkerRequest =
  | { readonly kind: 'snapshot' | 'batch'; readonly batch: ChangeBatch }
  | { readonly kind: 'status'; readonly request: number }
  | {
      readonly kind: 'trace'
      readonly request: number
      readonly port: string
      readonly packet: string
    }
  /** What trace requests have told: of one, or how all stand. */
  | { readonly kind: 'stories'; readonly request: number; readonly id: string | undefined }
  | {
      readonly kind: 'dpctl'
      readonly request: number
      readonly command: DpctlCommand
      readonly words: readonly string[]
    }
  | { readonly kind: 'close' }

/** Requests that still want packets, and stories of the one asked for. */
export interface ToldStories {
  readonly requests: readonly TraceRequestStatus[]
  readonly stories: readonly {
    readonly number: number
    readonly time: string
    readonly text: string
  }[]
}

/** To the main thread. `wakeFd` ends the worker's wait when 8 bytes are written to it. */
export type WorkerAnswer =
  | {
      readonly kind: 'ready'
      readonly wakeFd: number
      readonly datapath: string
      readonly why: string
      readonly features: readonly string[]
    }
  /** What the main thread waits for is reached: see `AppliedMark`. */
  | { readonly kind: 'applied' }
  | { readonly kind: 'health'; readonly value: MemberHealth }
  | { readonly kind: 'facts'; readonly facts: readonly SharedFact[] }
  | { readonly kind: 'status'; readonly request: number; readonly value: ForwarderStatus }
  | { readonly kind: 'trace'; readonly request: number; readonly value: TraceResult }
  | { readonly kind: 'stories'; readonly request: number; readonly value: ToldStories }
  | { readonly kind: 'dpctl'; readonly request: number; readonly value: string }
  | { readonly kind: 'refused'; readonly request: number; readonly error: string }

const limits = {
  /** Upcalls handled before the main thread is heard again. */
  upcallsPerRound: 256,
  waitMs: 500,
} as const

// This thread never returns to its event loop, which the usual log needs.
createDebug.log = (...line: unknown[]) => {
  writeSync(2, `${format(...line)}\n`)
}

function run(port: MessagePort, settings: WorkerData): void {
  const { datapath, why } = openDatapath(settings.datapath)
  const links = new NetlinkSocket(routeProtocol)
  try {
    work(port, { ...settings, tunnels: tunnelDevices(links) }, datapath, why)
  } finally {
    // Descriptors outlive their thread, and the next worker needs the devices that these hold.
    links.close()
    datapath.close()
  }
}

/** Returns when the main thread says so; an error ends the thread, and another is started. */
function work(
  port: MessagePort,
  settings: WorkerData & { readonly tunnels: TunnelDevices },
  datapath: OpenedDatapath['datapath'],
  why: string,
): void {
  const forwarder = new Forwarder({
    datapath,
    host: settings.hostId,
    now: () => performance.now(),
    flowLimit: settings.flowLimit,
    tunnels: settings.tunnels,
    epoch: randomBytes(4).readUInt32LE(),
  })
  const answer = (message: WorkerAnswer) => port.postMessage(message)
  const { kind, wakeFd, features } = datapath
  answer({ kind: 'ready', wakeFd, datapath: kind, why, features })
  const mark = new AppliedMark(settings.mark)
  const file = new StateFile(settings.stateFile, forwarder)
  let known = false
  for (;;) {
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      const request: WorkerRequest = next.message
      if (request.kind === 'close') {
        if (known) file.close()
        return
      }
      hear({ forwarder, datapath, stateFile: settings.stateFile, mark }, request, answer)
      known ||= request.kind === 'snapshot'
    }
    // Before the topology is known every packet would look like one for nobody.
    const handled = known ? forwarder.round(limits.upcallsPerRound) : 0
    if (known) {
      forwarder.tick()
      file.tick(performance.now())
    }
    for (const value of forwarder.takeHealth()) answer({ kind: 'health', value })
    const facts = forwarder.takeFacts()
    if (facts.length > 0) answer({ kind: 'facts', facts })
    // Not all that was asked for: nothing is left, and the wait tells what has come since.
    if (handled < limits.upcallsPerRound)
      datapath.wait(known ? waitFor(forwarder, file) : limits.waitMs)
  }
}

function waitFor(forwarder: Forwarder, file: StateFile): number {
  const fileMs = file.nextMs - performance.now()
  return Math.max(
    1,
    Math.min(limits.waitMs, Math.ceil(Math.min(forwarder.nextTimeoutMs(), fileMs))),
  )
}

interface Hearing {
  readonly forwarder: Forwarder
  readonly datapath: Datapath
  readonly stateFile: string
  readonly mark: AppliedMark
}

function hear(
  { forwarder, datapath, stateFile, mark }: Hearing,
  request: Exclude<WorkerRequest, { kind: 'close' }>,
  answer: (message: WorkerAnswer) => void,
): void {
  switch (request.kind) {
    case 'snapshot':
      forwarder.apply(request.batch)
      forwarder.adopt(readStateFile(stateFile))
      if (mark.reach(request.batch.revision)) answer({ kind: 'applied' })
      return
    case 'batch':
      forwarder.apply(request.batch)
      if (mark.reach(request.batch.revision)) answer({ kind: 'applied' })
      return
    case 'status':
      answer({ kind: 'status', request: request.request, value: forwarder.status() })
      return
    case 'trace':
      orRefuse(request.request, answer, () => {
        const value = forwarder.trace(request.port, request.packet)
        answer({ kind: 'trace', request: request.request, value })
      })
      return
    case 'stories':
      answer({
        kind: 'stories',
        request: request.request,
        value: {
          requests: forwarder.traceRequests(),
          stories: forwarder.stories(request.id ?? '').map(({ number, atMs, text }) => ({
            number,
            time: new Date(performance.timeOrigin + atMs).toISOString(),
            text,
          })),
        },
      })
      return
    case 'dpctl':
      orRefuse(request.request, answer, () => {
        const value = runDpctl(datapath, request.command, request.words)
        answer({ kind: 'dpctl', request: request.request, value })
      })
  }
}

/** Answers a request that cannot be met with the reason. */
function orRefuse(request: number, answer: (message: WorkerAnswer) => void, run: () => void): void {
  try {
    run()
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    answer({ kind: 'refused', request, error: text })
  }
}

if (parentPort !== null) run(parentPort, workerData as WorkerData)
