/** Values of the DHCP options that a virtual network uses: RFC 2132, and RFC 3442 for routes. */
import { type Cidr, networkOf } from './address.ts'
import { MalformedError, Reader, Writer } from './bytes.ts'
import type { Dhcp, DhcpOption } from './dhcp.ts'

export const optionSubnetMask = 1
export const optionRouter = 3
export const optionNameServer = 6
export const optionHostName = 12
export const optionMtu = 26
export const optionRequestedAddress = 50
export const optionLeaseTime = 51
export const optionMessageType = 53
export const optionServerId = 54
export const optionParameterList = 55
export const optionClasslessRoutes = 121

/** Values of `optionMessageType`. */
export const dhcpDiscover = 1
export const dhcpOffer = 2
export const dhcpRequest = 3
export const dhcpDecline = 4
export const dhcpAck = 5
export const dhcpNak = 6
export const dhcpRelease = 7
export const dhcpInform = 8

/** The value of an option, undefined when the message has none. */
export function findOption({ options }: Dhcp, code: number): Uint8Array | undefined {
  return options.find((option) => option.code === code)?.value
}

export function optionOfU8(code: number, value: number): DhcpOption {
  return { code, value: Uint8Array.of(value) }
}

export function optionOfU16(code: number, value: number): DhcpOption {
  return build(code, 2, (writer) => writer.u16(value))
}

export function optionOfU32(code: number, value: number): DhcpOption {
  return build(code, 4, (writer) => writer.u32(value))
}

export function optionOfAddresses(code: number, addresses: readonly number[]): DhcpOption {
  return build(code, 4 * addresses.length, (writer) => {
    for (const address of addresses) writer.u32(address)
  })
}

/** @throws MalformedError when the value is not a list of addresses */
export function readAddresses(value: Uint8Array): readonly number[] {
  if (value.length % 4 !== 0) throw new MalformedError('dhcp: cut list of addresses')
  const reader = new Reader(value)
  return Array.from({ length: value.length / 4 }, () => reader.u32())
}

/** A route of option 121: a gateway of 0.0.0.0 means that the network is on the link. */
export interface ClasslessRoute {
  readonly dst: Cidr
  readonly gateway: number
}

/** Each route is a prefix length, as many bytes of the network as that needs, and the gateway. */
export function optionOfRoutes(routes: readonly ClasslessRoute[]): DhcpOption {
  const size = routes.reduce((sum, { dst }) => sum + 5 + networkSize(dst.prefixLength), 0)
  return build(optionClasslessRoutes, size, (writer) => {
    for (const { dst, gateway } of routes) {
      writer.u8(dst.prefixLength)
      for (let at = 0; at < networkSize(dst.prefixLength); at++)
        writer.u8((networkOf(dst) >>> (24 - 8 * at)) & 0xff)
      writer.u32(gateway)
    }
  })
}

/** @throws TruncatedError, MalformedError */
export function readRoutes(value: Uint8Array): readonly ClasslessRoute[] {
  const reader = new Reader(value)
  const routes: ClasslessRoute[] = []
  while (reader.left > 0) {
    const prefixLength = reader.u8()
    if (prefixLength > 32) throw new MalformedError(`dhcp: prefix length ${prefixLength}`)
    let address = 0
    for (let at = 0; at < networkSize(prefixLength); at++)
      address += reader.u8() * 2 ** (24 - 8 * at)
    routes.push({ dst: { address, prefixLength }, gateway: reader.u32() })
  }
  return routes
}

function networkSize(prefixLength: number): number {
  return Math.ceil(prefixLength / 8)
}

function build(code: number, size: number, write: (writer: Writer) => void): DhcpOption {
  const value = new Uint8Array(size)
  write(new Writer(value))
  return { code, value }
}
