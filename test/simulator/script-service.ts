/**
 * The scripts' language for DHCP, policies, MTUs and trace requests:
 *
 *   dhcp SUBNET on BRIDGE net=CIDR [gateway=IP] [server=IP] [dns=IP,IP] [mtu=N] [routes=CIDR/IP,…]
 *                         [domain=NAME] [lease=SECONDS] [disabled]
 *   dhcphost ID in SUBNET mac=MAC ip=IP [name=NAME] [option=NAME:VALUE]
 *   policy ID [dscp=N] [kbps=N] [burst=KB]     qos port|bridge ID [policy=ID]
 *   mtu port|bridge ID N
 *   traced ID on KIND DEVICE limit=N [off] [FIELD=VALUE…]       stories ID
 *   client INTERFACE MAC discover|request|inform|release [ask=IP] [server=IP] [from=IP] [to=MAC]
 *   storm INTERFACE MAC COUNT                  discovers, one behind the other
 */
import { formatIp, parseIp, parseMac } from '../../packet/address.ts'
import { buildFrame } from '../../packet/build.ts'
import { decode, encode } from '../../packet/bytes.ts'
import { dhcp } from '../../packet/dhcp.ts'
import {
  dhcpDiscover,
  dhcpInform,
  dhcpRelease,
  dhcpRequest,
  findOption,
  optionMessageType,
  optionOfAddresses,
  optionOfU8,
  optionRequestedAddress,
  optionServerId,
  readAddresses,
  readRoutes,
} from '../../packet/dhcp-option.ts'
import { ipv4 } from '../../packet/ipv4.ts'
import { udp } from '../../packet/udp.ts'
import { schemas } from '../../topology/model.ts'
import { readCondition, type Words } from './script-policy.ts'
import { put, type World } from './world.ts'

type Command = (world: World, words: Words) => void

export const serviceChanges: Readonly<Record<string, Command>> = {
  dhcp(world, { plain: [id = '', , bridge = '', state], options }) {
    const [dns, mtu, lease] = [options.get('dns'), options.get('mtu'), options.get('lease')]
    const routes = options.get('routes')?.split(',').map(readRoute)
    const value = {
      id,
      bridge,
      enabled: state !== 'disabled',
      subnet: options.get('net'),
      gateway: options.get('gateway'),
      server: options.get('server'),
      domain: options.get('domain'),
      dnsServers: dns?.split(','),
      mtu: mtu === undefined ? undefined : Number(mtu),
      leaseSeconds: lease === undefined ? undefined : Number(lease),
      routes,
    }
    world.put(put('dhcpSubnet', schemas.dhcpSubnet.parse(value)))
  },

  dhcphost(world, { plain: [id = '', , subnet = ''], options }) {
    const [option, value] = options.get('option')?.split(':') ?? []
    const host = {
      id,
      subnet,
      mac: fullMac(options.get('mac') ?? ''),
      address: options.get('ip'),
      name: options.get('name'),
      options: option === undefined ? undefined : [{ option, value }],
    }
    world.put(put('dhcpHost', schemas.dhcpHost.parse(host)))
  },

  policy(world, { plain: [id = ''], options }) {
    const [dscp, kbps, burst] = [options.get('dscp'), options.get('kbps'), options.get('burst')]
    const bandwidth = {
      kbps: Number(kbps),
      ...(burst === undefined ? {} : { burstKb: Number(burst) }),
    }
    const value = {
      id,
      ...(dscp === undefined ? {} : { dscp: Number(dscp) }),
      ...(kbps === undefined ? {} : { bandwidth }),
    }
    world.put(put('qosPolicy', value))
  },

  qos: (world, { plain: [kind, id = ''], options }) =>
    change(world, kind, id, { qosPolicy: options.get('policy') }),

  mtu: (world, { plain: [kind, id = '', mtu] }) => change(world, kind, id, { mtu: Number(mtu) }),

  traced(world, { plain: [id = '', , kind, device = '', state], options }) {
    const { limit, ...fields } = Object.fromEntries(options)
    const value = {
      id,
      device: { kind, id: device },
      condition: readCondition(new Map(Object.entries(fields))),
      limit: Number(limit),
      enabled: state !== 'off',
    }
    world.put(put('traceRequest', schemas.traceRequest.parse(value)))
  },
}

function change(world: World, kind: string | undefined, id: string, fields: object): void {
  if (kind === 'bridge')
    world.put(
      put('bridge', schemas.bridge.parse({ ...world.topology.get('bridge', id), ...fields })),
    )
  else world.put(put('port', schemas.port.parse({ ...world.topology.get('port', id), ...fields })))
}

function readRoute(text: string) {
  const [network = '', length = '', gateway = ''] = text.split('/')
  return { dst: `${network}/${length}`, gateway }
}

function fullMac(text: string): string {
  return text.startsWith(':') ? `02:00:00:00:00${text}` : text
}

export const serviceQueries: Readonly<Record<string, (world: World, words: Words) => string[]>> = {
  stories: (world, { plain: [id = ''] }) =>
    world.forwarder
      .stories(id)
      .flatMap(({ number, text }) => [`story ${number}`, ...text.split('\n')]),

  storm(world, { plain: [name = '', mac = '', count = ''] }) {
    const frame = clientFrame(parseMac(fullMac(mac)) ?? 0, 'discover', new Map())
    let answers = 0
    for (let left = Number(count); left > 0; left--) answers += world.send(name, frame).length
    return [`answers: ${answers}`]
  },

  client(world, { plain: [name = '', mac = '', what = ''], options }) {
    const sent = world.send(name, clientFrame(parseMac(fullMac(mac)) ?? 0, what, options))
    if (sent.length === 0) return ['no answer']
    return sent.flatMap(({ interface: out, frame }) => [`out ${out}:`, ...showMessage(frame)])
  },
}

const types: Readonly<Record<string, number>> = {
  discover: dhcpDiscover,
  request: dhcpRequest,
  inform: dhcpInform,
  release: dhcpRelease,
}

/** A message as clients send it. */
export function clientFrame(
  mac: number,
  what: string,
  options: ReadonlyMap<string, string>,
): Uint8Array {
  const [ask, server, from] = ['ask', 'server', 'from'].map((one) => options.get(one))
  const src = parseIp(from ?? '') ?? 0
  const to = options.get('to')
  const dst = to === undefined ? 0xffff_ffff : (parseIp(server ?? '') ?? 0)
  const isRenewal = to !== undefined
  const addresses = { src, dst }
  const address = (code: number, text: string | undefined) =>
    text === undefined ? [] : [optionOfAddresses(code, [parseIp(text) ?? 0])]
  const message = encode(dhcp, {
    op: 'request',
    hops: 0,
    transaction: 0x1234,
    seconds: 0,
    flags: 0,
    clientAddress: src,
    yourAddress: 0,
    serverAddress: 0,
    relayAddress: 0,
    mac,
    serverName: new Uint8Array(0),
    bootFile: new Uint8Array(0),
    options: [
      optionOfU8(optionMessageType, types[what] ?? 0),
      ...address(optionRequestedAddress, ask),
      ...(isRenewal ? [] : address(optionServerId, server)),
    ],
  })
  const payload = encode(udp(addresses), {
    srcPort: 68,
    dstPort: 67,
    hasChecksum: true,
    payload: message,
  })
  const header = { tos: 0, id: 0, dontFragment: false, moreFragments: false, fragmentOffset: 0 }
  const dstMac = to === undefined ? 0xffff_ffff_ffff : (parseMac(fullMac(to)) ?? 0)
  return buildFrame({ dst: dstMac, src: mac, vlan: undefined, etherType: 0x0800 }, ipv4, {
    ...header,
    ...addresses,
    ttl: 64,
    proto: 17,
    options: new Uint8Array(0),
    payload,
  })
}

const typeNames = ['', 'discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform']

/** A DHCP message in words; another frame in hex. */
function showMessage(frame: Uint8Array): string[] {
  const packet = decode(ipv4, frame.subarray(14))
  if (packet.proto !== 17) return ['  no DHCP']
  const datagram = decode(udp(packet), packet.payload)
  const message = decode(dhcp, datagram.payload)
  const type = findOption(message, optionMessageType)?.[0] ?? 0
  const to = formatIp(packet.dst)
  return [
    `  ${message.op === 'request' ? 'as it was sent' : typeNames[type]} from ${formatIp(packet.src)} to ${to}, address ${formatIp(message.yourAddress)}`,
    ...message.options.slice(1).map(({ code, value }) => `  option ${code}: ${show(code, value)}`),
  ]
}

function show(code: number, value: Uint8Array): string {
  if ([1, 3, 6, 28, 42, 50, 54].includes(code)) return readAddresses(value).map(formatIp).join(' ')
  if (code === 121)
    return readRoutes(value)
      .map(
        ({ dst, gateway }) =>
          `${formatIp(dst.address)}/${dst.prefixLength} via ${formatIp(gateway)}`,
      )
      .join(', ')
  if (code === 12 || code === 15) return Buffer.from(value).toString()
  return String(Number(`0x${Buffer.from(value).toString('hex')}`))
}
