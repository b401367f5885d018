import test from 'ava'
import fc from 'fast-check'
import { networkOf } from '../../packet/address.ts'
import { decode, MalformedError, TruncatedError } from '../../packet/bytes.ts'
import { dhcp } from '../../packet/dhcp.ts'
import {
  findOption,
  optionMessageType,
  optionMtu,
  optionOfAddresses,
  optionOfRoutes,
  optionOfU8,
  optionOfU16,
  optionOfU32,
  optionRouter,
  readAddresses,
  readRoutes,
} from '../../packet/dhcp-option.ts'
import { capture, fromHex, hexOf } from './captures.ts'

const offer = decode(dhcp, fromHex(capture('dhcpOffer', 42)))

test('options of a real offer', (t) => {
  t.deepEqual(findOption(offer, optionMessageType), Uint8Array.of(2))
  t.deepEqual(readAddresses(findOption(offer, optionRouter) ?? new Uint8Array(1)), [0x0a09_0002])
  t.deepEqual(readRoutes(findOption(offer, 121) ?? new Uint8Array(1)), [
    { dst: { address: 0x0a05_0000, prefixLength: 16 }, gateway: 0x0a09_0003 },
  ])
  t.is(findOption(offer, 99), undefined)
})

test('values as they travel', (t) => {
  t.is(hexOf(optionOfU8(53, 2).value), '02')
  t.is(hexOf(optionOfU16(optionMtu, 1450).value), '05aa')
  t.is(hexOf(optionOfU32(51, 86_400).value), '00015180')
  t.is(hexOf(optionOfAddresses(6, [0x0808_0808, 0x0a00_0001]).value), '080808080a000001')
})

test('the default route and a host route are the ends of option 121', (t) => {
  const option = optionOfRoutes([
    { dst: { address: 0, prefixLength: 0 }, gateway: 0x0a00_0001 },
    { dst: { address: 0xc0a8_0001, prefixLength: 32 }, gateway: 0 },
  ])
  t.is(hexOf(option.value), '000a00000120c0a8000100000000')
})

test('routes come back, host bits cut', (t) => {
  const u32 = fc.nat(0xffff_ffff)
  const route = fc.record({ address: u32, prefixLength: fc.nat(32), gateway: u32 })
  fc.assert(
    fc.property(fc.array(route), (given) => {
      const routes = given.map(({ gateway, ...dst }) => ({
        dst: { ...dst, address: networkOf(dst) },
        gateway,
      }))
      t.deepEqual(readRoutes(optionOfRoutes(routes).value), routes)
    }),
  )
})

test('bad lists are refused', (t) => {
  t.throws(() => readAddresses(new Uint8Array(5)), { instanceOf: MalformedError })
  t.throws(() => readRoutes(Uint8Array.of(33, 0, 0, 0, 0, 0)), { instanceOf: MalformedError })
  t.throws(() => readRoutes(Uint8Array.of(24, 10, 0, 0, 1, 2)), { instanceOf: TruncatedError })
})
