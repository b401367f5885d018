/**
 * Reads matches that the kernel shows, of which there may be many thousands at once: plain keys by
 * words, and a mask that is the same as the one before not again.
 */
import { copyKey, createKey } from '../../packet/flow-key.ts'
import { finishMatch, readKey, type ShownMatch } from './key.ts'
import type { KernelMatch } from './match.ts'
import { readPlainKey } from './plain-key.ts'

export class MatchReader {
  /** What the match before stood in, as bytes and as words. */
  #memory: Uint8Array | undefined
  #words: Uint32Array = new Uint32Array(0)
  /** The mask before: how many words it took, which, what it is, and whether it is one of ours. */
  #maskSize = -1
  readonly #maskWords = new Uint32Array(64)
  readonly #mask = createKey()
  #isMaskOurs = false

  /** A match as it was written. False when it is not one of ours. */
  read(shown: ShownMatch, out: KernelMatch): boolean {
    const { memory, key, keyEnd } = shown
    if (memory !== this.#memory) {
      this.#memory = memory
      const isAligned = (memory.byteOffset & 3) === 0
      this.#words = isAligned ? wordsOf(memory) : wordsOf(memory.slice())
    }
    const complete =
      readPlainKey(this.#words, key, keyEnd, out.key) ||
      readKey(memory, key, keyEnd, false, out.key)
    if (!this.#isSameMask(shown)) this.#readMask(shown)
    copyKey(this.#mask, out.mask)
    if (!this.#isMaskOurs) return false
    finishMatch(out)
    return complete
  }

  #isSameMask({ mask, maskEnd }: ShownMatch): boolean {
    const start = mask >>> 2
    const size = (maskEnd - mask) >>> 2
    if (size !== this.#maskSize) return false
    for (let at = 0; at < size; at++)
      if (this.#words[start + at] !== this.#maskWords[at]) return false
    return true
  }

  #readMask({ memory, mask, maskEnd }: ShownMatch): void {
    this.#isMaskOurs = readKey(memory, mask, maskEnd, true, this.#mask)
    const size = (maskEnd - mask) >>> 2
    // What is not kept whole is read again.
    const isKept = ((mask | maskEnd) & 3) === 0 && size <= this.#maskWords.length
    this.#maskSize = isKept ? size : -1
    if (isKept) this.#maskWords.set(this.#words.subarray(mask >>> 2, maskEnd >>> 2))
  }
}

function wordsOf(memory: Uint8Array): Uint32Array {
  return new Uint32Array(memory.buffer, memory.byteOffset, memory.length >>> 2)
}
