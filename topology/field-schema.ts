/** Schemas of single fields: ids, names, addresses. */
import { z } from 'zod'
import { isGroupMac, parseCidr, parseIp, parseIpv6, parseMac } from '../packet/address.ts'
import { parseCidr6 } from '../packet/address6.ts'

/** Object ids: UUIDs of ours, Docker's ids, or derived ones such as `<pool>_<address>`. */
export const idSchema = z
  .string()
  .regex(/^[0-9A-Za-z][0-9A-Za-z._:-]{0,191}$/, 'must be 1 to 192 letters, digits or . _ : -')
export const nameSchema = z
  .string()
  .regex(
    /^[0-9A-Za-z][0-9A-Za-z_. -]{0,62}$/,
    'must be 1 to 63 letters, digits, spaces or _ . - and start with a letter or digit',
  )
/** Lower case, colons; of one station, not of a group. */
export const macSchema = z.string().refine(isStationMac, {
  message: 'must be the MAC address of one station, in lower case, such as 02:00:00:00:00:0a',
})
export const ipSchema = z.string().refine((text) => parseIp(text) !== undefined, {
  message: 'must be an IPv4 address such as 10.1.0.5',
})
/** Text as Docker gave it. */
export const ip6Schema = z.string().refine((text) => parseIpv6(text) !== undefined, {
  message: 'must be an IPv6 address such as fd00::5',
})
/** An address with its prefix length; host bits may be set. */
export const cidrSchema = z.string().refine((text) => parseCidr(text) !== undefined, {
  message: 'must be an IPv4 network such as 10.1.0.0/24',
})
export const cidr6Schema = z.string().refine((text) => parseCidr6(text) !== undefined, {
  message: 'must be an IPv6 network such as fd00::/64',
})
/** An address, or a network, of either family. */
export const eitherIpSchema = z
  .string()
  .refine((text) => parseIp(text) !== undefined || parseIpv6(text) !== undefined, {
    message: 'must be an IPv4 or IPv6 address such as 10.1.0.5 or fd00::5',
  })
export const eitherCidrSchema = z
  .string()
  .refine((text) => parseCidr(text) !== undefined || parseCidr6(text) !== undefined, {
    message: 'must be an IPv4 or IPv6 network such as 10.1.0.0/24 or fd00::/64',
  })
/** The size of an IP packet; RFC 791 asks 68 of every link. */
export const mtuSchema = z.int().min(68).max(65_535)
/** Of 802.1Q; 0 and 4095 are no VLANs. */
export const vlanSchema = z.int().min(1).max(4094)
/** A Linux interface name, IFNAMSIZ less the end of string. */
export const interfaceSchema = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, 'must be an interface name of 1 to 15 characters')

function isStationMac(text: string): boolean {
  const mac = parseMac(text)
  return mac !== undefined && mac !== 0 && !isGroupMac(mac) && text === text.toLowerCase()
}
