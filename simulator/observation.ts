/**
 * What a walk rests on: the bits of the header that it has read, and the tags of the facts that it
 * has used.
 */
import { clearKey, createKey, type Field, type FlowKey, joinPrefix } from '../packet/flow-key.ts'
import type { Tag } from './tag.ts'

/** Word `at` of a key or mask. */
export function word(key: FlowKey, at: number): number {
  return key[at] ?? 0
}

export class Observation {
  readonly mask = createKey()
  /** The first `tagCount` of these. */
  readonly tags: Tag[] = new Array<Tag>(64).fill(0)
  tagCount = 0

  /** Begins anew; where the packet came in by is always read. */
  clear(): void {
    clearKey(this.mask)
    this.mask[0] = 0xffff_ffff
    this.tagCount = 0
  }

  /** The walk rests on a fact. */
  tag(tag: Tag): void {
    this.tags[this.tagCount++] = tag
  }

  /** Joins a whole field to the mask. */
  see({ word: at, shift, bits }: Field): void {
    if (bits > 32) {
      if (bits === 48) this.mask[at] = word(this.mask, at) | 0xffff
      else this.mask[at] = 0xffff_ffff
      for (let next = at + 1; next * 32 < at * 32 + bits; next++) this.mask[next] = 0xffff_ffff
      return
    }
    const ones = bits === 32 ? 0xffff_ffff : (1 << bits) - 1
    this.mask[at] = word(this.mask, at) | (ones << shift)
  }

  /** Joins some bits of word `at`. */
  seeBits(at: number, bits: number): void {
    this.mask[at] = word(this.mask, at) | bits
  }

  // What nearly every walk reads has a way of its own: nothing is looked up.

  seeProtocol(): void {
    this.mask[9] = word(this.mask, 9) | 0xff
  }

  seeTtl(): void {
    this.mask[9] = word(this.mask, 9) | 0xff_0000
  }

  seeFragment(): void {
    this.mask[9] = word(this.mask, 9) | 0xff00_0000
  }

  seeTpSrc(): void {
    this.mask[18] = word(this.mask, 18) | 0xffff
  }

  seeTpDst(): void {
    this.mask[18] = word(this.mask, 18) | 0xffff_0000
  }

  seeEthDst(): void {
    this.mask[3] = 0xffff
    this.mask[4] = 0xffff_ffff
  }

  seeEthSrc(): void {
    this.mask[5] = 0xffff
    this.mask[6] = 0xffff_ffff
  }

  /** Tag and innermost type: what the bytes above Ethernet are. */
  seeEthType(): void {
    this.mask[7] = 0xffff
    this.mask[8] = 0xffff
  }

  seeIpSrc(bits: number): void {
    if (bits > 0) this.mask[10] = word(this.mask, 10) | (0xffff_ffff << (32 - bits))
  }

  seeIpDst(bits: number): void {
    if (bits > 0) this.mask[14] = word(this.mask, 14) | (0xffff_ffff << (32 - bits))
  }

  seeIpv6Src(bits: number): void {
    joinPrefix(this.mask, 10, bits)
  }

  seeIpv6Dst(bits: number): void {
    joinPrefix(this.mask, 14, bits)
  }
}
