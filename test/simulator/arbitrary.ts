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

export const subnet = fc.nat({ max: subnets.length - 1 })
const someAddress = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(subnet, fc.constantFrom(1, 2, 3, 4, 255)).map(([s, n]) => address(s, n)),
  },
  { weight: 3, arbitrary: fc.constantFrom(0x1401_0101, 0x1480_4001, 0x1480_0001, 0x0808_0808) },
  { weight: 1, arbitrary: fc.constantFrom(0, 0x7f00_0001, 0xe000_0001, 0xffff_ffff) },
)
export const hostMac = fc.constantFrom(...hostMacs)
const someMac = fc.oneof(
  { weight: 5, arbitrary: hostMac },
  { weight: 5, arbitrary: fc.constantFrom(...routerMacs) },
  { weight: 2, arbitrary: fc.constantFrom(0xffff_ffff_ffff, 0x3333_0000_0001) },
)

/** The key of a packet, in the shape that `extractKey` gives; `inPort` is left 0. */
export const packetKey: fc.Arbitrary<FlowKey> = fc
  .record({
    kind: fc.constantFrom('ip', 'ip', 'ip', 'arp', 'arp', 'other'),
    src: fc.oneof({ weight: 9, arbitrary: hostMac }, { weight: 1, arbitrary: someMac }),
    dst: someMac,
    vlan: fc.constantFrom(0, 0, 0, 0x1000, 0x1005),
    a: someAddress,
    b: someAddress,
    ttl: fc.constantFrom(0, 1, 2, 64, 64),
    frag: fc.constantFrom(0, 0, 0, 0, 1, 2),
    protocol: fc.constantFrom(1, 1, 6, 17, 47),
    // The last: a DHCP client's.
    ports: fc.constantFrom(8, 0, 3, 0x0035_1000, 0x0050_2000, 0x0043_0044),
    op: fc.constantFrom(1, 1, 1, 2, 3),
    sha: someMac,
    sameSha: fc.boolean(),
    gratuitous: fc.constantFrom(false, false, true),
    ethType: fc.constantFrom(0x86dd, 0x88cc, 0),
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
    return key
  })
