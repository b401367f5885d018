/** Frames from flow keys, so that tests can write packets in the key's text form. */

import { writeU16, writeU32 } from '../../packet/bytes.ts'
import { checksum } from '../../packet/checksum.ts'
import { composeFrame } from '../../packet/compose.ts'
import { type FlowKey, fragFirst, fragLater } from '../../packet/flow-key.ts'
import { parseKey } from '../../packet/text.ts'

/** A frame that `extractKey` reads as `key` again, save for words that its kind does not have. */
export function frameOf(key: FlowKey, payloadSize = 16): Uint8Array {
  if (key[8] === 0x86dd) return composeFrame(key)
  const frame = new Uint8Array(128 + payloadSize)
  writeU16(frame, 0, word(key, 3))
  writeU32(frame, 2, word(key, 4))
  writeU16(frame, 6, word(key, 5))
  writeU32(frame, 8, word(key, 6))
  let start = 12
  if (word(key, 7) !== 0) {
    writeU16(frame, start, 0x8100)
    writeU16(frame, start + 2, word(key, 7) & 0xefff)
    start += 4
  }
  writeU16(frame, start, word(key, 8))
  start += 2
  return frame.slice(0, writeBody(frame, start, key) + payloadSize)
}

function writeBody(frame: Uint8Array, start: number, key: FlowKey): number {
  switch (key[8]) {
    case 0x0806:
      return writeArp(frame, start, key)
    case 0x0800:
      return writeIpv4(frame, start, key)
    default:
      return start
  }
}

function writeArp(frame: Uint8Array, start: number, key: FlowKey): number {
  writeU16(frame, start, 1)
  writeU16(frame, start + 2, 0x0800)
  writeU16(frame, start + 4, 0x0604)
  writeU16(frame, start + 6, word(key, 19) >>> 16)
  writeU16(frame, start + 8, word(key, 11))
  writeU32(frame, start + 10, word(key, 12))
  writeU32(frame, start + 14, word(key, 10))
  writeU16(frame, start + 18, word(key, 15))
  writeU32(frame, start + 20, word(key, 16))
  writeU32(frame, start + 24, word(key, 14))
  return start + 28
}

function writeIpv4(frame: Uint8Array, start: number, key: FlowKey): number {
  const frag = word(key, 9) >>> 24
  writeU16(frame, start, 0x4500 | ((word(key, 9) >>> 8) & 0xff))
  writeU16(frame, start + 2, 20 + 20 + 16)
  writeU16(frame, start + 6, frag === fragFirst ? 0x2000 : frag === fragLater ? 0x0010 : 0)
  frame[start + 8] = (word(key, 9) >>> 16) & 0xff
  frame[start + 9] = word(key, 9) & 0xff
  writeU32(frame, start + 12, word(key, 10))
  writeU32(frame, start + 16, word(key, 14))
  writeU16(frame, start + 10, checksum(frame.subarray(start, start + 20)))
  writeL4(frame, start + 20, word(key, 9) & 0xff, key)
  return start + 40
}

function writeL4(frame: Uint8Array, start: number, protocol: number, key: FlowKey): void {
  const src = word(key, 18) & 0xffff
  const dst = word(key, 18) >>> 16
  if (protocol === 1) {
    frame[start] = src
    frame[start + 1] = dst
    writeU16(frame, start + 2, checksum(frame.subarray(start, start + 36)))
    return
  }
  writeU16(frame, start, src)
  writeU16(frame, start + 2, dst)
  if (protocol === 6) writeU16(frame, start + 12, 0x5000 | (word(key, 19) & 0xff))
  if (protocol === 17) writeU16(frame, start + 4, 36)
}

function word(key: FlowKey, at: number): number {
  return key[at] ?? 0
}

/** A frame from a key in text. */
export function frame(text: string): Uint8Array {
  return frameOf(parseKey(text).key)
}
