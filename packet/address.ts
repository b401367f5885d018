/** Addresses as numbers in memory (MAC 48 bits, IPv4 32 bits unsigned) and as text at the rim. */

/** An IPv4 network: `address` has its host bits as given. */
export interface Cidr {
  readonly address: number
  readonly prefixLength: number
}

export const broadcastMac = 0xffff_ffff_ffff

/** Multicast or broadcast: the group bit of the first octet. */
export function isGroupMac(mac: number): boolean {
  return (Math.floor(mac / 0x100_0000_0000) & 1) === 1
}

/** `02:00:00:00:00:0a` in either case; undefined when it is not a MAC address. */
export function parseMac(text: string): number | undefined {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) return undefined
  return Number.parseInt(text.replaceAll(':', ''), 16)
}

export function formatMac(mac: number): string {
  const hex = mac.toString(16).padStart(12, '0')
  return `${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}:${hex.slice(6, 8)}:${hex.slice(8, 10)}:${hex.slice(10)}`
}

/** Dotted quad without leading zeros (they would be octal elsewhere); undefined when it is not one. */
export function parseIp(text: string): number | undefined {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text)) return undefined
  let value = 0
  for (const part of text.split('.')) {
    const octet = Number(part)
    if (octet > 255) return undefined
    value = value * 256 + octet
  }
  return value
}

export function formatIp(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`
}

/** `10.1.0.0/24`; undefined when it is not an IPv4 network. */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([0-9.]+)\/(0|[1-9]\d?)$/.exec(text)
  const address = parseIp(match?.[1] ?? '')
  const prefixLength = Number(match?.[2])
  if (address === undefined || prefixLength > 32) return undefined
  return { address, prefixLength }
}

export function formatCidr({ address, prefixLength }: Cidr): string {
  return `${formatIp(address)}/${prefixLength}`
}

/** The mask of a prefix length as an unsigned number: 24 is 0xffffff00. */
export function prefixMask(prefixLength: number): number {
  return prefixLength === 0 ? 0 : (0xffff_ffff << (32 - prefixLength)) >>> 0
}

/** First address of the network. */
export function networkOf({ address, prefixLength }: Cidr): number {
  return (address & prefixMask(prefixLength)) >>> 0
}

/** Last address of the network: its directed broadcast. */
export function broadcastOf(cidr: Cidr): number {
  return (networkOf(cidr) | ~prefixMask(cidr.prefixLength)) >>> 0
}

export function contains(cidr: Cidr, address: number): boolean {
  return (address & prefixMask(cidr.prefixLength)) >>> 0 === networkOf(cidr)
}

/** Whether two networks share an address. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.prefixLength <= b.prefixLength ? contains(a, b.address) : contains(b, a.address)
}
