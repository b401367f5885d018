/**
 * Whether a recorded history is linearizable: whether each operation can be given one moment between
 * its call and its return so that, in the order of these moments, a sequential model gives the same
 * results. The search is Wing and Gong's with Lowe's memory of configurations already tried ("Testing
 * for linearizability", 2017): at each point any operation may come next that was called before the
 * earliest return among those left; a set of operations done, in a state seen before, leads nowhere.
 */

/** One call of one client. Times are of one clock. */
export interface Operation<I, O> {
  readonly client: string
  readonly input: I
  /** Undefined when nobody knows whether it was done: it may have been, at any time after its call. */
  readonly output: O | undefined
  readonly calledMs: number
  /** Infinity without an output. */
  readonly returnedMs: number
}

export interface Model<S, I, O> {
  readonly initial: S
  /** The state after an operation; undefined when it cannot have this output in this state. */
  step(state: S, input: I, output: O | undefined): S | undefined
  /** Equal for equal states only. */
  nameOf(state: S): string
}

export type Verdict<I, O> =
  | { readonly kind: 'linearizable'; readonly order: readonly Operation<I, O>[] }
  /** With the longest order that could be found. */
  | { readonly kind: 'not'; readonly order: readonly Operation<I, O>[] }
  /** Given up: too many configurations. */
  | { readonly kind: 'unknown' }

export const limits = {
  configurations: 200_000,
} as const

interface Frame<S> {
  readonly at: number
  readonly before: S
}

/** Looks for an order. */
export function checkHistory<S, I, O>(
  model: Model<S, I, O>,
  history: readonly Operation<I, O>[],
): Verdict<I, O> {
  const operations = [...history].sort((a, b) => a.calledMs - b.calledMs)
  const done = new Uint8Array(operations.length)
  const tried = new Set<string>()
  const stack: Frame<S>[] = []
  let longest: readonly Operation<I, O>[] = []
  let state = model.initial
  let from = 0
  for (;;) {
    if (isComplete(operations, done))
      return { kind: 'linearizable', order: orderOf(stack, operations) }
    if (tried.size > limits.configurations) return { kind: 'unknown' }
    const next = findNext(model, operations, done, state, from, tried)
    if (next !== undefined) {
      stack.push({ at: next.at, before: state })
      done[next.at] = 1
      state = next.state
      from = 0
      if (stack.length > longest.length) longest = orderOf(stack, operations)
      continue
    }
    const last = stack.pop()
    if (last === undefined) return { kind: 'not', order: longest }
    done[last.at] = 0
    state = last.before
    from = last.at + 1
  }
}

function findNext<S, I, O>(
  model: Model<S, I, O>,
  operations: readonly Operation<I, O>[],
  done: Uint8Array,
  state: S,
  from: number,
  tried: Set<string>,
): { readonly at: number; readonly state: S } | undefined {
  let firstReturnMs = Number.POSITIVE_INFINITY
  for (const [at, { returnedMs }] of operations.entries())
    if (done[at] === 0) firstReturnMs = Math.min(firstReturnMs, returnedMs)
  for (let at = from; at < operations.length; at++) {
    const operation = operations[at]
    if (operation === undefined || done[at] === 1) continue
    if (operation.calledMs > firstReturnMs) return undefined
    const after = model.step(state, operation.input, operation.output)
    if (after === undefined) continue
    done[at] = 1
    const configuration = `${nameOf(done)} ${model.nameOf(after)}`
    done[at] = 0
    if (tried.has(configuration)) continue
    tried.add(configuration)
    return { at, state: after }
  }
  return undefined
}

/** What has no output need not have been done. */
function isComplete<I, O>(operations: readonly Operation<I, O>[], done: Uint8Array): boolean {
  return operations.every(({ output }, at) => done[at] === 1 || output === undefined)
}

function orderOf<S, I, O>(
  stack: readonly Frame<S>[],
  operations: readonly Operation<I, O>[],
): readonly Operation<I, O>[] {
  return stack.flatMap(({ at }) => operations[at] ?? [])
}

/** The operations done: all up to a first gap, and the rest one by one. */
function nameOf(done: Uint8Array): string {
  let first = done.indexOf(0)
  if (first < 0) first = done.length
  let rest = ''
  for (let at = first; at < done.length; at++) if (done[at] === 1) rest += `,${at}`
  return `${first}${rest}`
}

/** An object whose value is replaced: the output is the value that stood before. */
export const swapRegister: Model<string, string, string> = {
  initial: '',
  step: (state, input, output) => (output === undefined || output === state ? input : undefined),
  nameOf: (state) => state,
}

/** An object whose value is replaced if it is the one expected; whether it was is the output. */
export const comparedRegister: Model<
  string,
  { readonly from: string; readonly to: string },
  boolean
> = {
  initial: '',
  step: (state, { from, to }, output) => {
    if (state === from) return output === false ? undefined : to
    return output === true ? undefined : state
  },
  nameOf: (state) => state,
}

/** An address that is taken and released; `false` when that could not be done. */
export const lease: Model<boolean, 'take' | 'release', boolean> = {
  initial: false,
  step: (isTaken, input, output) => {
    const fits = (input === 'take') !== isTaken
    if (output === false) return fits ? undefined : isTaken
    return fits ? !isTaken : undefined
  },
  nameOf: String,
}

/** Notes what clients do, with the times. */
export class Recorder<I, O> {
  readonly operations: (Operation<I, O> & { readonly key: string })[] = []

  /** Runs an operation on `key`; what it throws is looked at by `isKnown`: then it was not done. */
  async run(
    client: string,
    key: string,
    input: I,
    act: () => Promise<O>,
    isKnown: (error: unknown) => boolean,
  ): Promise<O | undefined> {
    const calledMs = performance.now()
    const note = (output: O | undefined, returnedMs: number) =>
      this.operations.push({ client, key, input, output, calledMs, returnedMs })
    try {
      const output = await act()
      note(output, performance.now())
      return output
    } catch (error) {
      if (!isKnown(error)) note(undefined, Number.POSITIVE_INFINITY)
      return undefined
    }
  }

  /** The histories of the keys: each object for itself is linearizable if and only if all are. */
  histories(): ReadonlyMap<string, readonly Operation<I, O>[]> {
    const found = new Map<string, Operation<I, O>[]>()
    for (const operation of this.operations) {
      const history = found.get(operation.key) ?? []
      history.push(operation)
      found.set(operation.key, history)
    }
    return found
  }
}
