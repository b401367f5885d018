/**
 * What the kernel matches of a kind of packet under a mask. Most flows are of few kinds: the mask as
 * the kernel holds it, and the attributes that say so, are worked out once for each.
 */
import { equalKeys, type FlowKey, fragLater } from '../../packet/flow-key.ts'
import { writeKey } from './key.ts'
import { canonize, createMatch, type KernelMatch, type Need } from './match.ts'
import { Output } from './output.ts'
import { type PlainLayers, plainLayers } from './plain-key.ts'
import { flowAttr, tagPresent } from './protocol.ts'

export const limits = {
  /** Kinds kept; when there are more, all are worked out anew. */
  shapes: 256,
} as const

/** How a kind of flow is matched. */
export interface Shape {
  /** Never changes: one list for all flows that have it. */
  readonly mask: FlowKey
  /** The attribute that holds the mask; undefined where it depends on more of the key. */
  readonly maskWords: Uint32Array | undefined
  /** What `writePlainKey` has to write of the key, where it can. */
  readonly layers: PlainLayers
}

interface Kept extends Shape {
  /** What they were asked for: the mask itself, and what `kindOf` says. */
  readonly asked: FlowKey
  readonly kind: number
}

/** The kinds of flows met so far, the last of them found at once. */
export class Shapes {
  readonly #kept: Kept[] = []
  #last: Kept | undefined
  readonly #match = createMatch()
  readonly #out = new Output(4096)

  /** The same mask, by identity, never changes. */
  of(key: FlowKey, asked: FlowKey, needs: Need): Shape {
    const kind = kindOf(key, needs)
    const last = this.#last
    if (last !== undefined && last.asked === asked && last.kind === kind) return last
    for (const one of this.#kept)
      if (one.asked === asked && one.kind === kind) {
        this.#last = one
        return one
      }
    return this.#make(key, asked, needs, kind)
  }

  #make(key: FlowKey, asked: FlowKey, needs: Need, kind: number): Shape {
    const match = this.#match
    canonize(key, asked, needs, match)
    const mask =
      this.#kept.find((one) => equalKeys(one.mask, match.mask))?.mask ?? match.mask.slice()
    const layers = plainLayers(match.key, mask)
    const maskWords = isTunneled(key) ? undefined : this.#write(match)
    const one: Kept = { asked, kind, mask, maskWords, layers }
    if (this.#kept.length >= limits.shapes) this.#kept.length = 0
    this.#kept.push(one)
    this.#last = one
    return one
  }

  /** @throws DatapathError as `writeKey` does */
  #write(match: KernelMatch): Uint32Array {
    const out = this.#out
    out.clear()
    const start = out.nest(flowAttr.mask)
    writeKey(out, match, true)
    out.close(start)
    return out.arena.words.slice(0, out.size >>> 2)
  }
}

function isTunneled(key: FlowKey): boolean {
  return ((key[1] ?? 0) | (key[2] ?? 0)) !== 0
}

/** All of a key that its mask and how it is written depend on. */
function kindOf(key: FlowKey, needs: Need): number {
  const above = key[9] ?? 0
  const isAgain = (key[3] ?? 0) >>> 16 !== 0
  const flags =
    ((key[7] ?? 0) & tagPresent ? 1 : 0) |
    (above >>> 24 === fragLater ? 2 : 0) |
    (isAgain ? 4 : 0) |
    (isTunneled(key) ? 8 : 0)
  return ((key[8] ?? 0) & 0xffff) | ((above & 0xff) << 16) | (flags << 24) | (needs << 28)
}
