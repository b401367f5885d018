/** One line of build/bench.json. The ratio is ours/peer, or ours alone when there is no peer. */
export interface Row {
  readonly name: string
  readonly unit: string
  readonly ours: number
  readonly peer: number | null
  readonly goal: number
  readonly better: 'higher' | 'lower'
}
