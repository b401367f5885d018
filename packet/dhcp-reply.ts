/** What a DHCP server says to a client that it knows: RFC 2131 section 4.3. */
import { broadcastMac, prefixMask } from './address.ts'
import { buildFrame } from './build.ts'
import { decode, encode, MalformedError, TruncatedError } from './bytes.ts'
import { type Dhcp, type DhcpOption, dhcp } from './dhcp.ts'
import {
  type ClasslessRoute,
  dhcpAck,
  dhcpDiscover,
  dhcpInform,
  dhcpNak,
  dhcpOffer,
  dhcpRequest,
  findOption,
  optionHostName,
  optionLeaseTime,
  optionMessageType,
  optionMtu,
  optionNameServer,
  optionOfAddresses,
  optionOfRoutes,
  optionOfU8,
  optionOfU16,
  optionOfU32,
  optionRequestedAddress,
  optionRouter,
  optionServerId,
  optionSubnetMask,
  readAddresses,
} from './dhcp-option.ts'
import { ethernet } from './ethernet.ts'
import { etherTypeIpv4, protoUdp } from './extract.ts'
import { ipv4 } from './ipv4.ts'
import { udp } from './udp.ts'

/** What one client is given. Addresses as numbers. */
export interface DhcpLease {
  readonly mac: number
  readonly address: number
  readonly prefixLength: number
  /** Whom the client knows as the server. */
  readonly server: number
  readonly gateway: number | undefined
  readonly dnsServers: readonly number[]
  readonly mtu: number | undefined
  readonly routes: readonly ClasslessRoute[]
  readonly leaseSeconds: number
  readonly domain: string | undefined
  readonly name: string | undefined
  /** These win over what the fields above say. */
  readonly extra: readonly DhcpOption[]
}

const optionDomain = 15
const optionBroadcast = 28
const optionRenewal = 58
const optionRebinding = 59
const broadcastFlag = 0x8000
const broadcastIp = 0xffff_ffff
const ports = { server: 67, client: 68 } as const
const udpSize = 8
/** RFC 951: some clients take nothing shorter. */
const messageSizeMin = 300

/**
 * The frame that answers a client's message, sent from `serverMac`. Undefined when it wants no answer
 * from this server: it is none of DISCOVER, REQUEST and INFORM, is for another server, came by a
 * relay, is somebody else's, or cannot be read.
 */
export function buildDhcpReply(
  frame: Uint8Array,
  lease: DhcpLease,
  serverMac: number,
): Uint8Array | undefined {
  const request = readRequest(frame)
  if (request === undefined || request.mac !== lease.mac || request.relayAddress !== 0)
    return undefined
  const reply = replyTo(request, lease)
  if (reply === undefined) return undefined
  const { message, isDirect } = reply
  const dst = isDirect ? message.clientAddress || message.yourAddress : broadcastIp
  const addresses = { src: lease.server, dst }
  const bytes = encode(dhcp, message)
  const payload = new Uint8Array(Math.max(bytes.length, messageSizeMin))
  payload.set(bytes)
  return buildFrame(
    {
      dst: isDirect ? lease.mac : broadcastMac,
      src: serverMac,
      vlan: undefined,
      etherType: etherTypeIpv4,
    },
    ipv4,
    {
      ...addresses,
      tos: 0,
      id: 0,
      dontFragment: false,
      moreFragments: false,
      fragmentOffset: 0,
      ttl: 64,
      proto: protoUdp,
      options: new Uint8Array(0),
      payload: encode(udp(addresses), {
        srcPort: ports.server,
        dstPort: ports.client,
        hasChecksum: true,
        payload,
      }),
    },
  )
}

function readRequest(frame: Uint8Array): Dhcp | undefined {
  try {
    const { payload, proto } = decode(ipv4, frame.subarray(ethernet.size(untagged)))
    if (proto !== protoUdp) return undefined
    // UDP's checksum is not looked at: a sender on this machine may have left it to be completed.
    const message = decode(dhcp, payload.subarray(udpSize))
    return message.op === 'request' ? message : undefined
  } catch (error) {
    if (error instanceof TruncatedError || error instanceof MalformedError) return undefined
    throw error
  }
}

const untagged = { dst: 0, src: 0, vlan: undefined, etherType: etherTypeIpv4 }

/** `isDirect` when the client can take a packet to its own address. */
function replyTo(
  request: Dhcp,
  lease: DhcpLease,
): { readonly message: Dhcp; readonly isDirect: boolean } | undefined {
  const wantsBroadcast = (request.flags & broadcastFlag) !== 0
  switch (findOption(request, optionMessageType)?.[0]) {
    case dhcpDiscover: {
      const offer = grant(request, lease, dhcpOffer)
      return { message: offer, isDirect: !wantsBroadcast }
    }
    case dhcpRequest: {
      const server = addressOf(request, optionServerId)
      if (server !== undefined && server !== lease.server) return undefined
      const asked = addressOf(request, optionRequestedAddress) ?? request.clientAddress
      if (asked !== lease.address) return { message: refuse(request, lease), isDirect: false }
      const isDirect = request.clientAddress !== 0 || !wantsBroadcast
      return { message: grant(request, lease, dhcpAck), isDirect }
    }
    case dhcpInform: {
      if (request.clientAddress === 0) return undefined
      return { message: inform(request, lease), isDirect: true }
    }
    default:
      // RELEASE and DECLINE want no answer; addresses are nobody else's to get.
      return undefined
  }
}

/** The first address of an option; undefined when the message has none. */
function addressOf(request: Dhcp, code: number): number | undefined {
  const value = findOption(request, code)
  return value === undefined || value.length < 4
    ? undefined
    : readAddresses(value.subarray(0, 4))[0]
}

function grant(request: Dhcp, lease: DhcpLease, type: number): Dhcp {
  const { leaseSeconds } = lease
  return reply(request, lease, type, lease.address, [
    optionOfU32(optionLeaseTime, leaseSeconds),
    optionOfU32(optionRenewal, Math.floor(leaseSeconds / 2)),
    optionOfU32(optionRebinding, Math.floor((leaseSeconds * 7) / 8)),
    ...describe(lease),
  ])
}

/** As RFC 2131 section 4.3.5: no address and no lease time. */
function inform(request: Dhcp, lease: DhcpLease): Dhcp {
  return reply(request, lease, dhcpAck, 0, describe(lease))
}

function refuse({ clientAddress: _, ...request }: Dhcp, lease: DhcpLease): Dhcp {
  return {
    ...base({ ...request, clientAddress: 0 }),
    options: [
      optionOfU8(optionMessageType, dhcpNak),
      optionOfAddresses(optionServerId, [lease.server]),
    ],
  }
}

function reply(
  request: Dhcp,
  lease: DhcpLease,
  type: number,
  yourAddress: number,
  options: readonly DhcpOption[],
): Dhcp {
  const told = options.filter(({ code }) => !lease.extra.some((one) => one.code === code))
  return {
    ...base(request),
    yourAddress,
    serverAddress: lease.server,
    options: [
      optionOfU8(optionMessageType, type),
      optionOfAddresses(optionServerId, [lease.server]),
      ...told,
      ...lease.extra,
    ],
  }
}

function base({ transaction, flags, clientAddress, mac }: Dhcp): Omit<Dhcp, 'options'> {
  return {
    op: 'reply',
    hops: 0,
    transaction,
    seconds: 0,
    flags,
    clientAddress,
    yourAddress: 0,
    serverAddress: 0,
    relayAddress: 0,
    mac,
    serverName: new Uint8Array(0),
    bootFile: new Uint8Array(0),
  }
}

function describe(lease: DhcpLease): DhcpOption[] {
  const { address, prefixLength, gateway, dnsServers, mtu, name, domain } = lease
  const mask = prefixMask(prefixLength) >>> 0
  const text = (code: number, value: string): DhcpOption => ({
    code,
    value: new TextEncoder().encode(value),
  })
  return [
    optionOfU32(optionSubnetMask, mask),
    optionOfU32(optionBroadcast, (address | ~mask) >>> 0),
    ...(gateway === undefined ? [] : [optionOfAddresses(optionRouter, [gateway])]),
    ...routesOf(lease),
    ...(dnsServers.length === 0 ? [] : [optionOfAddresses(optionNameServer, dnsServers)]),
    ...(mtu === undefined ? [] : [optionOfU16(optionMtu, mtu)]),
    ...(name === undefined ? [] : [text(optionHostName, name)]),
    ...(domain === undefined ? [] : [text(optionDomain, domain)]),
  ]
}

/** Who reads option 121 reads no router option (RFC 3442), so the default route is in both. */
function routesOf({ routes, gateway }: DhcpLease): DhcpOption[] {
  if (routes.length === 0) return []
  const anywhere = { address: 0, prefixLength: 0 }
  const hasDefault = routes.some(({ dst }) => dst.prefixLength === 0)
  const all = gateway === undefined || hasDefault ? routes : [...routes, { dst: anywhere, gateway }]
  return [optionOfRoutes(all)]
}
