/** Random packets out of a small universe of addresses, so that they meet what is there. */
import fc from 'fast-check'
import { createKey, type FlowKey, writeField } from '../../packet/flow-key.ts'

export const hostMacs = [1, 2, 3, 4, 5].map((n) => 0x0200_0000_0000 + n)
export const routerMacs = [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5].map((n) => 0x0200_0000_0000 + n)
export const subnets = [
  0x0a01_0000, 0x0a02_0000, 0x0a03_0000, 0x0a04_0000, 0x0a05_0000, 0x0a06_0000,
]
/** An address of subnet `s`: 1 is the router's. */
export function address(s: number, n: number): number {
  return (subnets[s] ?? 0) + n
}

/** The same address in IPv6: `fd00:<s>::<n>`, as text and as four words. */
export function address6(s: number, n: number): string {
  return `fd00:${s}::${n}`
}
function words6(s: number, n: number): readonly number[] {
  return [0xfd00_0000 + s, 0, 0, n]
}

export const subnet = fc.nat({ max: subnets.length - 1 })
const someAddress = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(subnet, fc.constantFrom(1, 2, 3, 4, 255)).map(([s, n]) => address(s, n)),
  },
  { weight: 3, arbitrary: fc.constantFrom(0x1401_0101, 0x1480_4001, 0x1480_0001, 0x0808_0808) },
  { weight: 1, arbitrary: fc.constantFrom(0, 0x7f00_0001, 0xe000_0001, 0xffff_ffff) },
)
const someWords6 = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(subnet, fc.constantFrom(1, 2, 3, 4, 255)).map(([s, n]) => words6(s, n)),
  },
  // Out there, link-local of a host and of a router, a group, loopback, nobody.
  {
    weight: 3,
    arbitrary: fc.constantFrom<readonly number[]>(
      [0x2001_0db8, 0, 0, 8],
      [0x2001_0db8, 0x4000_0000, 0, 8],
      [0xfe80_0000, 0, 0x00ff, 0xfe00_0001],
      [0xfe80_0000, 0, 0x00ff, 0xfe00_00f0],
      [0xff02_0000, 0, 0x0001, 0xff00_0001],
      [0xff02_0000, 0, 0, 1],
      [0, 0, 0, 1],
      [0, 0, 0, 0],
    ),
  },
)
export const hostMac = fc.constantFrom(...hostMacs)
const someMac = fc.oneof(
  { weight: 5, arbitrary: hostMac },
  { weight: 5, arbitrary: fc.constantFrom(...routerMacs) },
  // All, a group, spanning trees.
  {
    weight: 2,
    arbitrary: fc.constantFrom(0xffff_ffff_ffff, 0x3333_0000_0001, 0x0180_c200_0000),
  },
)

/** The key of a packet, in the shape that `extractKey` gives; `inPort` is left 0. */
export const packetKey: fc.Arbitrary<FlowKey> = fc
  .record({
    kind: fc.constantFrom('ip', 'ip', 'ip', 'ip6', 'ip6', 'arp', 'arp', 'other'),
    src: fc.oneof({ weight: 9, arbitrary: hostMac }, { weight: 1, arbitrary: someMac }),
    dst: someMac,
    vlan: fc.constantFrom(0, 0, 0, 0x1000, 0x1005, 0x1006),
    a: someAddress,
    b: someAddress,
    ttl: fc.constantFrom(0, 1, 2, 64, 64),
    frag: fc.constantFrom(0, 0, 0, 0, 1, 2),
    protocol: fc.constantFrom(1, 1, 6, 17, 47),
    // The last: a DHCP client's.
    ports: fc.constantFrom(
      8,
      0,
      3,
      0x0035_1000,
      0x0050_2000,
      0x0043_0044,
      0x00b3_4000,
      0x0ec8_4000,
    ),
    op: fc.constantFrom(1, 1, 1, 2, 3),
    sha: someMac,
    sameSha: fc.boolean(),
    gratuitous: fc.constantFrom(false, false, true),
    ethType: fc.constantFrom(0x86dd, 0x88cc, 0),
    a6: someWords6,
    b6: someWords6,
    protocol6: fc.constantFrom(58, 58, 58, 6, 17, 47),
    // Echo, its answer, errors, and neighbour discovery.
    type6: fc.constantFrom(128, 128, 129, 1, 2, 133, 134, 135, 135, 136, 136),
    hopLimit: fc.constantFrom(0, 1, 2, 64, 255, 255),
  })
  .map((p) => {
    const key = createKey()
    writeField(key, 'ethSrc', p.src)
    writeField(key, 'ethDst', p.dst)
    writeField(key, 'vlan', p.vlan)
    if (p.kind === 'other') writeField(key, 'ethType', p.ethType)
    if (p.kind === 'arp') {
      writeField(key, 'ethType', 0x0806)
      writeField(key, 'arpOp', p.op)
      writeField(key, 'ipSrc', p.a)
      writeField(key, 'ipDst', p.gratuitous ? p.a : p.b)
      writeField(key, 'arpSha', p.sameSha ? p.src : p.sha)
    }
    if (p.kind === 'ip') {
      writeField(key, 'ethType', 0x0800)
      writeField(key, 'ipSrc', p.a)
      writeField(key, 'ipDst', p.b)
      writeField(key, 'ipProto', p.protocol)
      writeField(key, 'ipTtl', p.ttl)
      writeField(key, 'ipFrag', p.frag)
      if (p.frag !== 2 && p.protocol !== 47) key[18] = p.ports
    }
    if (p.kind === 'ip6') {
      writeField(key, 'ethType', 0x86dd)
      key.set(p.a6, 10)
      key.set(p.b6, 14)
      writeField(key, 'ipProto', p.protocol6)
      writeField(key, 'ipTtl', p.hopLimit)
      writeField(key, 'ipFrag', p.frag)
      if (p.frag !== 2 && p.protocol6 !== 47) key[18] = p.protocol6 === 58 ? p.type6 : p.ports
    }
    return key
  })
