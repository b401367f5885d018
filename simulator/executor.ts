/** Sends packets by the datapath; a list of actions too long for it in pieces. */
import { type Datapath, DatapathError, type Offload } from '../datapath/datapath.ts'
import type { Action } from '../packet/action.ts'
import { outputsPerPiece, pieces } from './flow-actions.ts'

export class Executor {
  readonly #datapath: Datapath
  #failures = 0

  constructor(datapath: Datapath) {
    this.#datapath = datapath
  }

  /** Packets that the datapath refused. */
  get failures(): number {
    return this.#failures
  }

  execute(
    packet: Uint8Array,
    offload: Offload | undefined,
    inPort: number,
    actions: readonly Action[],
  ): void {
    if (actions.length === 0) return
    try {
      this.#datapath.execute(packet, offload, inPort, actions)
    } catch (error) {
      if (!(error instanceof DatapathError)) throw error
      if (error.code !== 'E2BIG' || actions.length <= outputsPerPiece) this.#failures++
      else for (const piece of pieces(actions)) this.execute(packet, offload, inPort, piece)
    }
  }
}
