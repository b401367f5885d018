/** IPv6 networks: numbers in memory, text at the rim. */
import { parseIpv6 } from '../packet/address.ts'

/** An IPv6 network: `address` has its host bits as given. */
export interface Cidr6 {
  readonly address: bigint
  readonly prefixLength: number
}

/** `fd00::/64`; undefined when it is not an IPv6 network. */
export function parseCidr6(text: string): Cidr6 | undefined {
  const match = text.match(/^([0-9a-f:.]{2,45})\/(0|[1-9]\d{0,2})$/i)
  const address = parseIpv6(match?.[1] ?? 'none')
  const prefixLength = Number(match?.[2])
  if (address === undefined || prefixLength > 128) return undefined
  return { address, prefixLength }
}
