/** IPv6 addresses as netlink carries them: 16 bytes. */
import { formatIpv6 } from '../packet/address.ts'

export function ip6Bytes(address: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, at) =>
    Number((address >> BigInt(120 - 8 * at)) & 0xffn),
  )
}

export function ip6Text(bytes: Uint8Array): string {
  return formatIpv6(bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n))
}
