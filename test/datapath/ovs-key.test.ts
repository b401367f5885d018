import { randomInt } from 'node:crypto'
import test from 'ava'
import fc from 'fast-check'
import { planActions, writeActions } from '../../datapath/ovs/action.ts'
import { readActions } from '../../datapath/ovs/action-read.ts'
import { readKey, writeKey } from '../../datapath/ovs/key.ts'
import { canonize, createMatch, type KernelMatch, need } from '../../datapath/ovs/match.ts'
import { MatchReader } from '../../datapath/ovs/match-reader.ts'
import { Output } from '../../datapath/ovs/output.ts'
import { readPlainKey } from '../../datapath/ovs/plain-key.ts'
import { keyAttr } from '../../datapath/ovs/protocol.ts'
import { extractKey } from '../../packet/extract.ts'
import { createKey, keyWords } from '../../packet/flow-key.ts'
import { formatKey, parseActions } from '../../packet/text.ts'
import { anySoundFrame } from '../packet/arbitrary.ts'
import { captures, fromHex } from '../packet/captures.ts'

const seed = Number(process.env.SEED ?? randomInt(2 ** 31))

/** An upcall as Linux 6.1.192 sent it for an ARP request: attributes behind the headers. */
const upcallKey = fromHex(
  '0800140000000000080013000000000008000200000000000800030001000000' +
    '08000f0000000000080016000000000006001700000000000800180000000000' +
    '1400190000000000000000000000000000000000100004000200000000' +
    '01ffffffffffff06000600080600001c000d000a0000010a000002' +
    '0001020000000001000000000000' +
    '0000',
)
const upcallPacket = fromHex(
  'ffffffffffff02000000000108060001080006040001020000000001' + '0a0000010000000000000a000002',
)

function written(write: (out: Output) => void): Uint8Array {
  const out = new Output(4096)
  write(out)
  return out.arena.bytes.slice(0, out.size)
}

/** One for all: what it keeps of one match must not get into another. */
const reader = new MatchReader()

function roundTrip(match: KernelMatch): { read: KernelMatch; complete: boolean } {
  const key = written((out) => writeKey(out, match, false))
  const mask = written((out) => writeKey(out, match, true))
  const read = createMatch()
  const [keyEnd, maskEnd] = [key.length, key.length + mask.length]
  const memory = Buffer.concat([key, mask])
  const complete = reader.read({ memory, key: 0, keyEnd, mask: keyEnd, maskEnd }, read)
  return { read, complete }
}

function keyOf(frame: Uint8Array): Uint32Array {
  const key = createKey()
  extractKey(frame, 1, key)
  return key
}

test('the kernel’s key of a packet is the one that we extract', (t) => {
  const key = createKey()
  t.true(readKey(upcallKey, 0, upcallKey.length, false, key))
  t.is(formatKey(key), formatKey(keyOf(upcallPacket)))
})

test('a key that says more than ours is known for it', (t) => {
  const key = createKey()
  const hex = (text: string) => fromHex(text)
  const isComplete = (bytes: Uint8Array) => readKey(bytes, 0, bytes.length, false, key)
  t.true(isComplete(hex('0800030001000000')))
  t.false(isComplete(hex('08000300010000000800140000000100')), 'recirculated by others')
  t.true(isComplete(hex('0800140005000000080016002a000000060017000700')), 'by us: zone and state')
  t.false(isComplete(hex('0800140005000000080018000700')), 'a mark')
  t.false(isComplete(hex('0800030001000000080016002a000000')), 'known to connection tracking')
  t.false(isComplete(hex('0800030001000000080015000000012f')), 'MPLS')
  t.false(isComplete(hex('080003000100000008007f0000000000')), 'an attribute nobody knows')
  t.false(isComplete(hex('08000300010000000c00')), 'cut off')
  t.is(key[0], 1, 'what is known is read all the same')
})

test(`what a newer kernel says besides is never lost (SEED=${seed})`, (t) => {
  const known = new Set<number>(Object.values(keyAttr))
  const unknown = fc.integer({ min: 1, max: 0x3fff }).filter((type) => !known.has(type))
  const value = fc.uint8Array({ minLength: 0, maxLength: 16 })
  const expected = createKey()
  t.true(readKey(upcallKey, 0, upcallKey.length, false, expected))
  fc.assert(
    fc.property(unknown, value, fc.boolean(), (type, bytes, isFirst) => {
      const other = written((out) => {
        const at = out.open(type)
        out.bytes(bytes)
        out.close(at)
      })
      const key = Buffer.concat(isFirst ? [other, upcallKey] : [upcallKey, other])
      const read = createKey()
      t.false(readKey(key, 0, key.length, false, read))
      t.deepEqual(read, expected, 'and what is known is read all the same')
    }),
    { seed, numRuns: 1000 },
  )
})

/** Reads a key as plain; undefined when it is not. */
function plainKey(bytes: Uint8Array): Uint32Array | undefined {
  const memory = new Uint8Array(8 + bytes.length + 3)
  memory.set(bytes, 8)
  const key = createKey().fill(0x5a5a_5a5a)
  const words = new Uint32Array(memory.buffer, 0, memory.length >> 2)
  return readPlainKey(words, 8, 8 + bytes.length, key) ? key : undefined
}

test(`a plain key is read as any other (SEED=${seed})`, (t) => {
  const expected = createKey()
  const anyMask = createKey().fill(0xffff_ffff)
  const match = createMatch()
  let plain = 0
  fc.assert(
    fc.property(anySoundFrame, (frame) => {
      const key = keyOf(frame)
      fc.pre(key[7] === 0 && key[8] !== 0x8100 && key[8] !== 0x88a8 && key[8] !== 0x0806)
      canonize(key, anyMask, need.nothing, match)
      const bytes = written((out) => writeKey(out, match, false))
      t.true(readKey(bytes, 0, bytes.length, false, expected))
      const read = plainKey(bytes)
      if (read !== undefined) plain++
      t.deepEqual(read ?? expected, expected)
    }),
    { seed, numRuns: 1000 },
  )
  t.true(plain > 300, `${plain} keys were plain`)
})

test(`a key as kernels write it is read as any other (SEED=${seed})`, (t) => {
  const [expected, match] = [createKey(), createMatch()]
  const anyMask = createKey().fill(0xffff_ffff)
  // What comes before the headers, in which a bit may be another.
  const before = upcallKey.subarray(0, 84)
  let plain = 0
  fc.assert(
    fc.property(anySoundFrame, fc.option(fc.nat({ max: 84 * 8 - 1 })), (frame, bit) => {
      const key = keyOf(frame)
      fc.pre(key[7] === 0 && key[8] !== 0x8100 && key[8] !== 0x88a8 && key[8] !== 0x0806)
      canonize(key, anyMask, need.nothing, match)
      const headers = written((out) => writeKey(out, match, false)).subarray(16)
      const bytes = Buffer.concat([before, headers])
      if (bit !== null) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const complete = readKey(bytes, 0, bytes.length, false, expected)
      const read = plainKey(bytes)
      if (read === undefined) return
      plain++
      t.true(complete)
      t.deepEqual(read, expected)
    }),
    { seed, numRuns: 1000 },
  )
  t.true(plain > 100, `${plain} keys were plain`)
})

test(`a key is plain only when nothing is lost by it (SEED=${seed})`, (t) => {
  const anyType = fc.oneof(fc.constantFrom(...Object.values(keyAttr)), fc.nat({ max: 0x3fff }))
  const anyAttribute = fc.tuple(
    anyType,
    fc.oneof(fc.uint8Array({ maxLength: 44 }), fc.constantFrom(2, 4, 12, 16, 40).map(zeros)),
  )
  const whole = Buffer.from(upcallKey)
  const expected = createKey()
  fc.assert(
    fc.property(fc.array(anyAttribute, { maxLength: 6 }), fc.nat({ max: 80 }), (list, cut) => {
      const before = written((out) => {
        for (const [type, bytes] of list) out.attributeBytes(type, bytes)
      })
      const bytes = Buffer.concat([before, whole.subarray(0, whole.length - cut)])
      const read = plainKey(bytes)
      const complete = readKey(bytes, 0, bytes.length, false, expected)
      if (read === undefined) return
      t.true(complete)
      t.deepEqual(read, expected)
    }),
    { seed, numRuns: 5000 },
  )
})

function zeros(count: number): Uint8Array {
  return new Uint8Array(count)
}

test(`what the kernel can match comes back as it was written (SEED=${seed})`, (t) => {
  const anyMask = fc.uint32Array({ minLength: keyWords, maxLength: keyWords })
  const anyWhole = fc.constant(createKey().fill(0xffff_ffff))
  fc.assert(
    fc.property(anySoundFrame, fc.oneof(anyMask, anyWhole), (frame, mask) => {
      const key = keyOf(frame)
      // Refused: a tag cut off at the end of the frame, and ARP operations that nobody uses.
      fc.pre(key[8] !== 0x8100 || key[7] !== 0)
      fc.pre(key[8] !== 0x0806 || (key[19] ?? 0) >>> 24 === 0)
      const match = createMatch()
      canonize(key, mask, need.nothing, match)
      const { read } = roundTrip(match)
      t.deepEqual(read.mask, match.mask)
      t.deepEqual(read.key, match.key)
    }),
    { seed, numRuns: 2000 },
  )
})

test(`a match never says less than asked (SEED=${seed})`, (t) => {
  const anyMask = fc.uint32Array({ minLength: keyWords, maxLength: keyWords })
  fc.assert(
    fc.property(anySoundFrame, anySoundFrame, anyMask, (frame, other, mask) => {
      const [key, another] = [keyOf(frame), keyOf(other)]
      const match = createMatch()
      canonize(key, mask, need.nothing, match)
      // A packet that the kernel's flow matches is one that the flow asked for matches.
      const isMatched = another.every(
        (word, at) => ((word ^ (match.key[at] ?? 0)) & (match.mask[at] ?? 0)) === 0,
      )
      const isAsked = another.every(
        (word, at) => at === 1 || at === 2 || ((word ^ (key[at] ?? 0)) & (mask[at] ?? 0)) === 0,
      )
      t.true(!isMatched || isAsked)
    }),
    { seed, numRuns: 5000 },
  )
})

test('layers that a match rests on are matched exactly', (t) => {
  const match = createMatch()
  const mask = createKey()
  mask[18] = 0xffff
  canonize(keyOf(fromHex(captures.udpHello)), mask, need.nothing, match)
  t.is((match.mask[8] ?? 0) & 0xffff, 0xffff)
  t.is((match.mask[9] ?? 0) >>> 0, 0xff00_00ff)
  t.is(match.mask[7], 0xffff, 'no tag is something to match, too')
})

test('actions come back as they were written', (t) => {
  const text =
    'set(eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)),set(ipv4(ttl=3,tos=4,src=1.2.3.4,dst=5.6.7.8)),set(tp(src=9,dst=10)),push_vlan(vid=7,pcp=5),2,pop_vlan,set(tunnel(tun_id=0x5,dst=1.1.1.1,src=2.2.2.2)),3,userspace(reason=7)'
  const actions = parseActions(text)
  const key = keyOf(fromHex(captures.udpHello))
  t.deepEqual(planActions(actions, key), { needs: need.transport, slow: false })
  const bytes = written((out) => writeActions(out, actions, key, 1))
  t.deepEqual(readActions(bytes), actions)
})

test('what the kernel cannot do is seen, and what does nothing is left out', (t) => {
  const [arp, udp] = [captures.arpRequest, captures.udpHello].map((hex) => keyOf(fromHex(hex)))
  if (arp === undefined || udp === undefined) return t.fail()
  const answer = parseActions(
    'set(arp(sip=1.1.1.1,tip=2.2.2.2,op=2,sha=02:00:00:00:00:03,tha=02:00:00:00:00:04)),2',
  )
  t.true(planActions(answer, arp).slow)
  t.false(planActions(answer, udp).slow)
  const buried = parseActions('push_vlan(vid=1,pcp=0),push_vlan(vid=2,pcp=0),set(ipv4(ttl=1)),2')
  const bytes = written((out) => writeActions(out, buried, udp, 1))
  t.is(readActions(bytes)?.length, 3)
})

test('actions of another make are not mistaken for ours', (t) => {
  t.is(readActions(fromHex('0800070000000100')), undefined, 'recirculation')
})
