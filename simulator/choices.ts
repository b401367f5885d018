/**
 * Facts that chose where a new connection goes, such as what members a pool has. A drop rests on
 * them; a flow does not once the connection is remembered, since that decides from then on. So a
 * change of a pool removes no flows of connections that stand.
 */
import { empty } from './list.ts'
import type { Simulation } from './simulation.ts'
import type { Tag } from './tag.ts'

export class Choices {
  /** Places among the walk's tags, in order. */
  readonly #places: number[] = []

  clear(): void {
    empty(this.#places)
  }

  /** Tags a fact, for as long as the connection is not remembered. */
  add(sim: Simulation, tag: Tag): void {
    this.#places.push(sim.tagCount)
    sim.tag(tag)
  }

  /** Takes the tags away again when all that the walk wanted remembered is. */
  settle(sim: Simulation): void {
    if (this.#places.length === 0) return
    for (const effect of sim.effects)
      if (effect.kind === 'addState' && effect.entry.place < 0) return
    let taken = 0
    let place = this.#places[0] ?? 0
    for (let at = place; at < sim.tagCount; at++)
      if (at === place) place = this.#places[++taken] ?? -1
      else sim.tags[at - taken] = sim.tags[at] ?? 0
    sim.tagCount -= taken
    this.clear()
  }
}
