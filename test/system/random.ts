/** Random numbers that a seed decides: a failing run can be run again. */
export interface Random {
  /** An integer from 0 up to `bound`, less one. */
  below(bound: number): number
  pick<T>(from: readonly T[]): T | undefined
}

/** Mulberry32 (Tommy Ettinger, public domain). */
export function randomOf(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const below = (bound: number) => next() % bound
  return { below, pick: (from) => from[below(from.length)] }
}
