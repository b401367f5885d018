/**
 * Addresses as numbers in memory (MAC 48 bits, IPv4 32 bits unsigned, IPv6 128 bits as a bigint)
 * and as text at the rim.
 */

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

/** Two hexadecimal digits of each octet: names of facts are made of addresses for every packet. */
const octets = Array.from({ length: 256 }, (_, octet) => octet.toString(16).padStart(2, '0'))

export function formatMac(mac: number): string {
  const high = Math.floor(mac / 0x1_0000_0000)
  const low = mac >>> 0
  const vendor = `${octets[(high >>> 8) & 255]}:${octets[high & 255]}:${octets[low >>> 24]}`
  return `${vendor}:${octets[(low >>> 16) & 255]}:${octets[(low >>> 8) & 255]}:${octets[low & 255]}`
}

/** Dotted quad without leading zeros (they would be octal elsewhere); undefined when it is none. */
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

/** Any form of RFC 4291 section 2.2 without a zone; undefined when it is not an IPv6 address. */
export function parseIpv6(text: string): bigint | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = parseGroups(halves[0] ?? '', halves.length === 1)
  const tail = parseGroups(halves[1] ?? '', true)
  if (head === undefined || tail === undefined) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail]
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n)
}

/** Groups of 16 bits; the last two may be a dotted quad where `quad` says so. */
function parseGroups(text: string, quad: boolean): number[] | undefined {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [at, part] of parts.entries()) {
    const ipv4 = quad && at === parts.length - 1 ? parseIp(part) : undefined
    if (ipv4 !== undefined) groups.push(ipv4 >>> 16, ipv4 & 0xffff)
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16))
    else return undefined
  }
  return groups
}

/** The canonical form of RFC 5952, always in hex. */
export function formatIpv6(address: bigint): string {
  const groups = Array.from({ length: 8 }, (_, at) =>
    Number((address >> BigInt(112 - 16 * at)) & 0xffffn),
  )
  const { start, length } = longestZeroRun(groups)
  const hex = groups.map((group) => group.toString(16))
  if (length < 2) return hex.join(':')
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  let run = 0
  for (const [at, group] of groups.entries()) {
    run = group === 0 ? run + 1 : 0
    if (run > best.length) best = { start: at - run + 1, length: run }
  }
  return best
}
