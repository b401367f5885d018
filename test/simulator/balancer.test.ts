/** Whom connections go to: shares by weight, and what a change of the members moves. */
import test from 'ava'
import fc from 'fast-check'
import { hashOf, limits, seedOf, type VirtualMember, VirtualVip } from '../../simulator/balancer.ts'
import { Distinguisher } from '../../simulator/distinguisher.ts'
import { poolTag, serverTag } from '../../simulator/tag.ts'

function member(n: number, share: number): VirtualMember {
  const id = `member-${n}`
  return {
    id,
    tag: serverTag(id),
    address: 0x0a01_0002 + n,
    port: 80,
    share,
    keeps: true,
    keepsSticky: true,
    seed: seedOf(id),
  }
}

function vipOf(members: readonly VirtualMember[], before?: VirtualVip): VirtualVip {
  const place = { address: 0x1400_0009, port: 80, protocol: 6 }
  return new VirtualVip(
    { id: 'v', name: 'v', ...place, isSticky: true, poolTag: poolTag('p'), members },
    before,
  )
}

const connections = Array.from({ length: 8000 }, (_, n) =>
  hashOf(0x1400_0002 + (n >> 6), 0x1400_0009, ((80 << 16) | (32_768 + n * 2)) >>> 0),
)

test('members win connections in proportion to their weights', (t) => {
  const weights = [1, 1, 2, 4, 0]
  const vip = vipOf(weights.map((weight, n) => member(n, weight)))
  const counts = new Map<string | undefined, number>()
  for (const hash of connections) {
    const { id } = vip.choose(hash) ?? {}
    counts.set(id, (counts.get(id) ?? 0) + 1)
  }
  for (const [n, weight] of weights.entries()) {
    const part = (counts.get(`member-${n}`) ?? 0) / connections.length
    t.true(Math.abs(part - weight / 8) < 0.02, `weight ${weight} wins ${part}`)
  }
})

test('a member that goes moves its own connections, one that comes takes only what it wins', (t) => {
  const property = fc.property(
    fc.array(fc.nat({ max: 9 }), { minLength: 1, maxLength: 8 }),
    fc.nat({ max: 7 }),
    fc.array(fc.nat({ max: 0xffff_ffff }), { minLength: 20, maxLength: 20 }),
    (weights, at, hashes) => {
      const all = weights.map((weight, n) => member(n, weight))
      const gone = all[at % all.length]
      const without = vipOf(all.filter((one) => one !== gone))
      for (const hash of hashes) {
        const chosen = vipOf(all).choose(hash)
        if (chosen?.id !== gone?.id && without.choose(hash)?.id !== chosen?.id) return false
      }
      return true
    },
  )
  const found = fc.check(property, {
    ...(process.env.SEED !== undefined && { seed: Number(process.env.SEED) }),
  })
  t.false(found.failed, `SEED=${found.seed}: ${JSON.stringify(found.counterexample)}`)
})

test('the order of members does not matter, and nobody wins when no weight is above 0', (t) => {
  const members = [member(0, 3), member(1, 1), member(2, 7)]
  const [one, other] = [vipOf(members), vipOf([...members].reverse())]
  for (const hash of connections.slice(0, 200)) t.is(one.choose(hash)?.id, other.choose(hash)?.id)
  t.is(vipOf([member(0, 0), member(1, 0)]).choose(7), undefined)
  t.is(vipOf([]).choose(7), undefined)
})

test('clients of a sticky VIP are remembered over changes, in bounds, until they are idle', (t) => {
  const first = vipOf([member(0, 1)])
  for (let client = 0; client < limits.clients + 5; client++) first.stick(client, 'member-0', 1000)
  t.is(first.clients, limits.clients)
  t.is(first.stickOf(4), undefined)
  const next = vipOf([member(0, 1), member(1, 1)], first)
  const last = next.stickOf(limits.clients + 4)
  t.is(last?.member, 'member-0')
  if (last !== undefined) last.lastSeenMs = limits.clientIdleMs
  for (let turn = 0; turn < 200; turn++) next.sweep(1000 + limits.clientIdleMs)
  t.is(next.clients, 1)
  for (let turn = 0; turn < 5; turn++) next.sweep(2 * limits.clientIdleMs)
  t.is(next.clients, 0)
})

test('as many leading bits as are told match no address of a set but the asked one', (t) => {
  const address = fc.oneof(fc.nat({ max: 0xffff_ffff }), fc.nat({ max: 20 }))
  const property = fc.property(fc.array(address, { maxLength: 12 }), address, (all, asked) => {
    const bits = new Distinguisher(all).bitsFor(asked)
    const mask = bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0
    if (all.includes(asked)) return bits === 32
    return !all.some((one) => (one & mask) >>> 0 === (asked & mask) >>> 0)
  })
  const found = fc.check(property, { numRuns: 500 })
  t.false(found.failed, `SEED=${found.seed}: ${JSON.stringify(found.counterexample)}`)
})
