/**
 * Trace requests: which packets' walks are kept, and the stories that were.
 *
 * While a request stands, simulations of its device read what its condition asks for, so that no
 * flow made for other packets takes one that meets it. Packets of a flow that was made for one that
 * met it are not told again; each new flow is.
 */
import type { TraceRequest } from '../topology/model.ts'
import { type Check, compileChecks, meets } from './condition.ts'
import { fragmentsOf, type VirtualRule } from './policy.ts'
import type { VirtualPort } from './port.ts'
import type { Simulation } from './simulation.ts'

export const limits = {
  /** Stories kept of all requests; the oldest go. */
  stories: 1000,
} as const

export interface VirtualTrace {
  readonly id: string
  readonly request: TraceRequest
  readonly invert: boolean
  readonly fragments: VirtualRule['fragments']
  readonly checks: readonly Check[]
  /** Packets still to be told. */
  left: number
}

/** What became of one packet. */
export interface Story {
  /** Counts all stories of this agent, from 1 on. */
  readonly number: number
  readonly request: string
  /** By the forwarder's clock. */
  readonly atMs: number
  readonly text: string
}

export function compileTrace(request: TraceRequest): VirtualTrace {
  const { id, condition, limit } = request
  return {
    id,
    request,
    invert: condition?.invert === true,
    fragments: fragmentsOf({ condition }),
    checks: compileChecks(condition ?? {}),
    left: limit,
  }
}

/** Notes which requests want the packet as it enters. */
export function noteTraces(
  sim: Simulation,
  port: VirtualPort,
  traces: readonly VirtualTrace[],
): void {
  // Conditions on address groups look them up in a zone.
  sim.passage.begin(port.zone, sim.work)
  for (const trace of traces)
    if (!sim.traces.includes(trace) && meets(sim, trace)) sim.traces.push(trace)
}

/** The stories kept, oldest first. */
export class Stories {
  readonly #kept: Story[] = []
  #count = 0

  add(request: string, text: string, atMs: number): void {
    this.#kept.push({ number: ++this.#count, request, atMs, text })
    if (this.#kept.length > limits.stories) this.#kept.shift()
  }

  of(request: string): readonly Story[] {
    return this.#kept.filter((story) => story.request === request)
  }

  /** Of a request that is gone. */
  forget(request: string): void {
    const kept = this.#kept.filter((story) => story.request !== request)
    this.#kept.splice(0, this.#kept.length, ...kept)
  }
}
