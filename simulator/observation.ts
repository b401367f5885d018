/**
 * What a walk rests on: the bits of the header that it has read, and the tags of the facts that it
 * has used.
 */
import {
  clearKey,
  createKey,
  equalKeys,
  type Field,
  type FlowKey,
  joinPrefix,
  keyWords,
} from '../packet/flow-key.ts'
import type { Tag } from './tag.ts'

/** Word `at` of a key or mask. */
export function word(key: FlowKey, at: number): number {
  return key[at] ?? 0
}

/**
 * What nearly every walk reads has a bit of its own in one number, besides the length of the prefix
 * of each IP address: walks that read alike have one mask, which is made once.
 */
const read = {
  ethDst: 1 << 0,
  ethSrc: 1 << 1,
  ethType: 1 << 2,
  protocol: 1 << 3,
  ttl: 1 << 4,
  fragment: 1 << 5,
  tpSrc: 1 << 6,
  tpDst: 1 << 7,
  vlan: 1 << 8,
  tcpEnd: 1 << 9,
  tos: 1 << 10,
  tunnel: 1 << 11,
} as const
const srcShift = 12
const dstShift = 20
const lengthBits = 0xff

/** FIN and RST: who closes a connection must be seen doing it. */
export const tcpEnd = 0x05

export const limits = {
  /** Masks kept; when there are more, all are made anew. */
  masks: 1024,
} as const

export class Observation {
  /** The first `tagCount` of these. */
  readonly tags: Tag[] = new Array<Tag>(64).fill(0)
  tagCount = 0
  /** What was read, as bits of `read` and prefix lengths. */
  #read = 0
  /** The bits that were read besides. */
  readonly #more = createKey()
  #hasMore = false
  readonly #masks = new Map<number, FlowKey[]>()
  #kept = 0
  /** The mask that was asked for last, and what it is of; without bits besides. */
  #lastMask: FlowKey = createKey()
  #lastRead = -1

  /** Begins anew; where the packet came in by is always read. */
  clear(): void {
    this.#read = 0
    this.tagCount = 0
    if (!this.#hasMore) return
    clearKey(this.#more)
    this.#hasMore = false
  }

  /** What was read so far. Walks that read the same have the same list: it must not be changed. */
  get mask(): FlowKey {
    if (this.#read === this.#lastRead && !this.#hasMore) return this.#lastMask
    return this.#findMask()
  }

  #findMask(): FlowKey {
    const read = this.#read
    const known = this.#masks.get(read)
    if (!this.#hasMore) {
      this.#lastMask = known?.[0] ?? this.#keep(read, maskOf(read))
      this.#lastRead = read
      return this.#lastMask
    }
    const mask = maskOf(read)
    for (let at = 0; at < keyWords; at++) mask[at] = word(mask, at) | word(this.#more, at)
    for (const one of known ?? []) if (equalKeys(one, mask)) return one
    return this.#keep(read, mask)
  }

  /** The first mask of those that share the number is the one without bits besides. */
  #keep(read: number, mask: FlowKey): FlowKey {
    if (this.#kept >= limits.masks) {
      this.#masks.clear()
      this.#kept = 0
    }
    let known = this.#masks.get(read)
    if (known === undefined) {
      known = [maskOf(read)]
      this.#masks.set(read, known)
      this.#kept++
      if (!this.#hasMore) return known[0] ?? mask
    }
    known.push(mask)
    this.#kept++
    return mask
  }

  /** The walk rests on a fact. */
  tag(tag: Tag): void {
    this.tags[this.tagCount++] = tag
  }

  /** Joins a whole field to the mask. */
  see({ word: at, shift, bits }: Field): void {
    if (bits > 32) {
      this.seeBits(at, bits === 48 ? 0xffff : 0xffff_ffff)
      for (let next = at + 1; next * 32 < at * 32 + bits; next++) this.seeBits(next, 0xffff_ffff)
      return
    }
    const ones = bits === 32 ? 0xffff_ffff : (1 << bits) - 1
    this.seeBits(at, ones << shift)
  }

  /** Joins some bits of word `at`. */
  seeBits(at: number, bits: number): void {
    this.#more[at] = word(this.#more, at) | bits
    this.#hasMore = true
  }

  seeProtocol(): void {
    this.#read |= read.protocol
  }

  seeTtl(): void {
    this.#read |= read.ttl
  }

  seeFragment(): void {
    this.#read |= read.fragment
  }

  seeTpSrc(): void {
    this.#read |= read.tpSrc
  }

  seeTpDst(): void {
    this.#read |= read.tpDst
  }

  seeEthDst(): void {
    this.#read |= read.ethDst
  }

  seeEthSrc(): void {
    this.#read |= read.ethSrc
  }

  /** Tag and innermost type: what the bytes above Ethernet are. */
  seeEthType(): void {
    this.#read |= read.ethType
  }

  seeVlan(): void {
    this.#read |= read.vlan
  }

  /** Flags FIN and RST of TCP. */
  seeTcpEnd(): void {
    this.#read |= read.tcpEnd
  }

  seeTos(): void {
    this.#read |= read.tos
  }

  /** Which tunnel it came from, and from whom. */
  seeTunnel(): void {
    this.#read |= read.tunnel
  }

  /** The first bits of an IPv4 address. */
  seeIpSrc(bits: number): void {
    if (bits > ((this.#read >>> srcShift) & lengthBits))
      this.#read = (this.#read & ~(lengthBits << srcShift)) | (bits << srcShift)
  }

  seeIpDst(bits: number): void {
    if (bits > ((this.#read >>> dstShift) & lengthBits))
      this.#read = (this.#read & ~(lengthBits << dstShift)) | (bits << dstShift)
  }

  /** Those of IPv6 begin in the same word. */
  seeIpv6Src(bits: number): void {
    this.seeIpSrc(bits)
  }

  seeIpv6Dst(bits: number): void {
    this.seeIpDst(bits)
  }
}

function maskOf(what: number): FlowKey {
  const mask = createKey()
  mask[0] = 0xffff_ffff
  if (what & read.ethDst) mask.set([0xffff, 0xffff_ffff], 3)
  if (what & read.ethSrc) mask.set([0xffff, 0xffff_ffff], 5)
  if (what & (read.ethType | read.vlan)) mask[7] = 0xffff
  if (what & read.ethType) mask[8] = 0xffff
  if (what & read.protocol) mask[9] = word(mask, 9) | 0xff
  if (what & read.ttl) mask[9] = word(mask, 9) | 0xff_0000
  if (what & read.fragment) mask[9] = word(mask, 9) | 0xff00_0000
  if (what & read.tpSrc) mask[18] = word(mask, 18) | 0xffff
  if (what & read.tpDst) mask[18] = word(mask, 18) | 0xffff_0000
  if (what & read.tcpEnd) mask[19] = tcpEnd
  if (what & read.tos) mask[9] = word(mask, 9) | 0xff00
  if (what & read.tunnel) mask.fill(0xffff_ffff, 1, 3)
  joinPrefix(mask, 10, (what >>> srcShift) & lengthBits)
  joinPrefix(mask, 14, (what >>> dstShift) & lengthBits)
  return mask
}
