/**
 * The forwarding worker thread: blocks in the kernel for upcalls, simulates, installs, executes.
 * Everything in it is synchronous; it hears the main thread between two rounds.
 */
import { writeSync } from 'node:fs'
import { format } from 'node:util'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import createDebug from 'debug'
import { type EbpfDatapath, openEbpfDatapath } from '../datapath/ebpf/ebpf-datapath.ts'
import { Forwarder, type ForwarderStatus } from '../simulator/forwarder.ts'
import type { TraceResult } from '../simulator/trace.ts'
import type { ChangeBatch, Revision } from '../topology/store.ts'

export interface WorkerSettings {
  readonly hostId: string
  readonly flowLimit: number
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
  | { readonly kind: 'close' }

/** To the main thread. `wakeFd` ends the worker's wait when 8 bytes are written to it. */
export type WorkerAnswer =
  | { readonly kind: 'ready'; readonly wakeFd: number; readonly datapath: string }
  | { readonly kind: 'applied'; readonly revision: Revision }
  | { readonly kind: 'status'; readonly request: number; readonly value: ForwarderStatus }
  | { readonly kind: 'trace'; readonly request: number; readonly value: TraceResult }
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

function run(port: MessagePort, settings: WorkerSettings): void {
  const datapath = openEbpfDatapath({})
  try {
    work(port, settings, datapath)
  } finally {
    // Descriptors outlive their thread, and the next worker needs the devices that these hold.
    datapath.close()
  }
}

/** Returns when the main thread says so; an error ends the thread, and the main thread starts another. */
function work(port: MessagePort, settings: WorkerSettings, datapath: EbpfDatapath): void {
  const forwarder = new Forwarder({
    datapath,
    host: settings.hostId,
    now: () => performance.now(),
    flowLimit: settings.flowLimit,
  })
  const answer = (message: WorkerAnswer) => port.postMessage(message)
  answer({ kind: 'ready', wakeFd: datapath.wakeFd, datapath: datapath.kind })
  let known = false
  for (;;) {
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      const request: WorkerRequest = next.message
      if (request.kind === 'close') return
      hear(forwarder, request, answer)
      known ||= request.kind === 'snapshot'
    }
    // Before the topology is known every packet would look like one for nobody.
    const handled = known ? forwarder.round(limits.upcallsPerRound) : 0
    if (known) forwarder.tick()
    if (handled === 0) datapath.wait(known ? waitFor(forwarder) : limits.waitMs)
  }
}

function waitFor(forwarder: Forwarder): number {
  return Math.max(1, Math.min(limits.waitMs, Math.ceil(forwarder.nextTimeoutMs())))
}

function hear(
  forwarder: Forwarder,
  request: Exclude<WorkerRequest, { kind: 'close' }>,
  answer: (message: WorkerAnswer) => void,
): void {
  switch (request.kind) {
    case 'snapshot':
      forwarder.apply(request.batch)
      forwarder.adopt()
      answer({ kind: 'applied', revision: request.batch.revision })
      return
    case 'batch':
      forwarder.apply(request.batch)
      answer({ kind: 'applied', revision: request.batch.revision })
      return
    case 'status':
      answer({ kind: 'status', request: request.request, value: forwarder.status() })
      return
    case 'trace':
      try {
        const value = forwarder.trace(request.port, request.packet)
        answer({ kind: 'trace', request: request.request, value })
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error)
        answer({ kind: 'refused', request: request.request, error: text })
      }
  }
}

if (parentPort !== null) run(parentPort, workerData as WorkerSettings)
