import type { ExecutionContext } from 'ava'
import {
  type Codec,
  decode,
  encode,
  MalformedError,
  Reader,
  TruncatedError,
} from '../../packet/bytes.ts'
import { fromHex, hexOf } from './captures.ts'

/** Bytes decode to the value and nothing is left, the value encodes to them, no cut of them decodes. */
export function check<T>(t: ExecutionContext, codec: Codec<T>, value: T, hex: string): void {
  const bytes = fromHex(hex)
  const reader = new Reader(bytes)
  t.deepEqual(codec.decode(reader), value)
  t.is(reader.left, 0)
  t.is(codec.size(value), bytes.length)
  t.is(hexOf(encode(codec, value)), hex)
  for (let size = 0; size < bytes.length; size++)
    t.is(decodeAnything(codec, bytes.slice(0, size)), undefined, `cut to ${size} bytes`)
}

/** Decodes, and lets pass only the two errors that bad bytes may cause. */
export function decodeAnything<T>(codec: Codec<T>, bytes: Uint8Array): T | undefined {
  try {
    return decode(codec, bytes)
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof MalformedError) return undefined
    throw error
  }
}
