import test from 'ava'
import fc from 'fast-check'
import { decodeKernelRoute } from '../../datapath/kernel-route.ts'
import { fromHex } from '../packet/captures.ts'

/** `20.0.0.0/8 proto bgp metric 20`, and what leads there, as the kernel writes it. */
const start = [
  '02080000feba000100000000', // struct rtmsg
  '08000f00fe000000', // table
  '0800010014000000', // destination
  '0800060014000000', // priority
].join('')
const single = `${start}080005000a0001020800040007000000`
const double = [
  `${start}24000900`,
  '1000000007000000080005000a000102',
  '1000100008000000080005000a000202',
].join('')

test('a route with one next hop, and one with several', (t) => {
  t.deepEqual(decodeKernelRoute(fromHex(single)), {
    dst: '20.0.0.0/8',
    protocol: 186,
    hops: [{ gateway: '10.0.1.2', index: 7, isDown: false }],
  })
  t.deepEqual(decodeKernelRoute(fromHex(double))?.hops, [
    { gateway: '10.0.1.2', index: 7, isDown: false },
    { gateway: '10.0.2.2', index: 8, isDown: true },
  ])
})

test('what is cut, changed or of no sense throws nothing', (t) => {
  for (const bytes of [fromHex(single), fromHex(double)])
    for (let size = 0; size <= bytes.length; size++)
      t.notThrows(() => decodeKernelRoute(bytes.subarray(0, size)))
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat({ max: 200 }), (noise, at) => {
      decodeKernelRoute(noise)
      const bytes = fromHex(double)
      bytes.set(noise.subarray(0, 4), Math.min(at, bytes.length - 4))
      const route = decodeKernelRoute(bytes)
      return route === undefined || /^[\d.]+\/\d+$/.test(route.dst)
    }),
  )
})

test('routes of another family, table or kind are nobody’s', (t) => {
  const changed = (at: number, value: number) => {
    const bytes = fromHex(single)
    bytes[at] = value
    return decodeKernelRoute(bytes)
  }
  t.is(changed(0, 10), undefined)
  t.is(changed(7, 6), undefined)
  t.is(changed(16, 255), undefined)
  t.is(changed(1, 33), undefined)
})
