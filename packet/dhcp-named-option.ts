/** DHCP options that an administrator gives by number or name, with values in text. */
import { parseIp } from './address.ts'
import { MalformedError } from './bytes.ts'
import type { DhcpOption } from './dhcp.ts'

/** What a value is: lists are divided by commas; `domains` are coded as RFC 3397 says. */
type Form = 'address' | 'addresses' | 'u8' | 'u16' | 'u32' | 'bool' | 'text' | 'domains' | 'hex'

const named: Readonly<Record<string, readonly [code: number, form: Form]>> = {
  'subnet-mask': [1, 'address'],
  'time-offset': [2, 'u32'],
  router: [3, 'addresses'],
  'time-server': [4, 'addresses'],
  'dns-server': [6, 'addresses'],
  'log-server': [7, 'addresses'],
  'lpr-server': [9, 'addresses'],
  hostname: [12, 'text'],
  'boot-file-size': [13, 'u16'],
  'domain-name': [15, 'text'],
  'swap-server': [16, 'address'],
  'root-path': [17, 'text'],
  'extension-path': [18, 'text'],
  'ip-forward-enable': [19, 'bool'],
  'non-local-source-routing': [20, 'bool'],
  'max-datagram-reassembly': [22, 'u16'],
  'default-ttl': [23, 'u8'],
  mtu: [26, 'u16'],
  broadcast: [28, 'address'],
  'router-discovery': [31, 'bool'],
  'arp-timeout': [35, 'u32'],
  'ethernet-encap': [36, 'bool'],
  'tcp-ttl': [37, 'u8'],
  'tcp-keepalive': [38, 'u32'],
  'nis-domain': [40, 'text'],
  'nis-server': [41, 'addresses'],
  'ntp-server': [42, 'addresses'],
  'vendor-encap': [43, 'hex'],
  'netbios-ns': [44, 'addresses'],
  'netbios-dd': [45, 'addresses'],
  'netbios-nodetype': [46, 'u8'],
  'netbios-scope': [47, 'text'],
  'x-windows-fs': [48, 'addresses'],
  'x-windows-dm': [49, 'addresses'],
  'lease-time': [51, 'u32'],
  t1: [58, 'u32'],
  t2: [59, 'u32'],
  'vendor-class': [60, 'text'],
  'nis+-domain': [64, 'text'],
  'nis+-server': [65, 'addresses'],
  'tftp-server': [66, 'text'],
  'bootfile-name': [67, 'text'],
  'mobile-ip-home': [68, 'addresses'],
  'smtp-server': [69, 'addresses'],
  'pop3-server': [70, 'addresses'],
  'nntp-server': [71, 'addresses'],
  'irc-server': [74, 'addresses'],
  'posix-timezone': [100, 'text'],
  'tzdb-timezone': [101, 'text'],
  'domain-search': [119, 'domains'],
  'sip-server': [120, 'hex'],
  'classless-static-route': [121, 'hex'],
  'tftp-server-address': [150, 'addresses'],
  'server-ip-address': [150, 'addresses'],
  wpad: [252, 'text'],
}

/** What makes the exchange itself: a client could not use an answer in which these are others. */
const reserved: ReadonlySet<number> = new Set([0, 50, 52, 53, 54, 55, 57, 61, 82, 255])

const formByCode = new Map(Object.values(named))

/** The names that `encodeNamedOption` takes. */
export const optionNames: readonly string[] = Object.keys(named)

/**
 * An option by number or name. A value of a number that has no name is hex (`0x…`) or text.
 * @throws MalformedError when there is no such option, or its value is another kind of thing
 */
export function encodeNamedOption(option: number | string, value: string): DhcpOption {
  const [code, form] = find(option)
  if (reserved.has(code)) throw new MalformedError(`option ${code} belongs to the protocol`)
  const encoded = encodeValue(form, value)
  if (encoded === undefined)
    throw new MalformedError(`option ${option}: ${JSON.stringify(value)} is not ${wants[form]}`)
  if (encoded.length === 0) throw new MalformedError(`option ${option} needs a value`)
  return { code, value: encoded }
}

function find(option: number | string): readonly [code: number, form: Form | 'any'] {
  if (typeof option === 'string' && Object.hasOwn(named, option)) return named[option] ?? [0, 'any']
  const code = Number(option)
  if (!Number.isInteger(code) || code < 1 || code > 254)
    throw new MalformedError(`no option ${option}: give a number or a name such as ntp-server`)
  return [code, formByCode.get(code) ?? 'any']
}

const wants: Readonly<Record<Form | 'any', string>> = {
  address: 'an IPv4 address',
  addresses: 'a list of IPv4 addresses such as 10.1.0.2,10.1.0.3',
  u8: 'a number up to 255',
  u16: 'a number up to 65535',
  u32: 'a number up to 4294967295',
  bool: '0 or 1',
  text: 'printable text',
  domains: 'a list of domains such as a.example,b.example',
  hex: 'bytes in hex such as 0x0a01',
  any: 'bytes in hex such as 0x0a01, or printable text',
}

function encodeValue(form: Form | 'any', text: string): Uint8Array | undefined {
  if (text.startsWith('0x')) return encodeHex(text.slice(2))
  switch (form) {
    case 'address':
    case 'addresses':
      return encodeAddresses(text, form === 'address' ? 1 : 32)
    case 'u8':
    case 'u16':
    case 'u32':
      return encodeNumber(text, { u8: 1, u16: 2, u32: 4 }[form])
    case 'bool':
      return text === '0' || text === '1' ? Uint8Array.of(Number(text)) : undefined
    case 'domains':
      return encodeDomains(text)
    case 'hex':
      return undefined
    case 'text':
    case 'any':
      return /^[\x20-\x7e]+$/.test(text) ? bytesOf(text) : undefined
  }
}

function encodeHex(text: string): Uint8Array | undefined {
  const digits = text.match(/[0-9a-f]{2}/gi) ?? []
  if (text === '' || digits.join('') !== text) return undefined
  return Uint8Array.from(digits, (byte) => Number.parseInt(byte, 16))
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function encodeAddresses(text: string, countMax: number): Uint8Array | undefined {
  const addresses = text.split(',').map((one) => parseIp(one.trim()))
  if (addresses.length > countMax) return undefined
  const value = new Uint8Array(4 * addresses.length)
  const view = new DataView(value.buffer)
  for (const [at, address] of addresses.entries()) {
    if (address === undefined) return undefined
    view.setUint32(4 * at, address)
  }
  return value
}

function encodeNumber(text: string, size: number): Uint8Array | undefined {
  const number = Number(text)
  if (!/^\d{1,10}$/.test(text) || number >= 2 ** (8 * size)) return undefined
  return Uint8Array.from({ length: size }, (_, at) => number / 2 ** (8 * (size - 1 - at)))
}

/** RFC 1035 section 3.1, without pointers. */
function encodeDomains(text: string): Uint8Array | undefined {
  const bytes: number[] = []
  for (const domain of text.split(',').map((one) => one.trim())) {
    for (const label of domain.split('.')) {
      if (!/^[0-9a-z_-]{1,63}$/i.test(label)) return undefined
      bytes.push(label.length, ...bytesOf(label))
    }
    bytes.push(0)
  }
  return Uint8Array.from(bytes)
}
