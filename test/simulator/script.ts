/**
 * The language of the scripts in `scripts/`: topologies, packets and time in text.
 *
 *   bridge NAME [down]                         router NAME [down]
 *   port ID on DEVICE [if=INTERFACE] [vlan=N] [station=MAC/IP,IP] [mac=MAC] [address=CIDR,CIDR]
 *                     [neighbor=IP/MAC] [down]
 *   link PORT PORT                             route ID on ROUTER to=CIDR [from=CIDR] [via=IP]
 *   bind PORT INTERFACE [host=HOST] [key=N]              [port=ID] [weight=N] [blackhole|reject]
 *   remove KIND ID
 *   send INTERFACE PACKET                      hit INTERFACE PACKET   (same, no detail)
 *   wait SECONDS      flows      status NAME…  restart [remembered=SECONDS]
 *   trace PORT PACKET
 *   lose INTERFACE    gain INTERFACE
 *
 * Chains and groups: see script-policy.ts. Load balancing: script-balance.ts. IPv6: see script6.ts. DHCP, policies, MTUs, traces: see script-service.ts. Mirrors: see script-mirror.ts. Other hosts: script-hosts.ts. `quotes` shows ids and quotes of ICMP messages from then on.
 *
 * PACKET is `icmp A > B`, `udp A:PORT > B:PORT`, `tcp …`, `arp who-has A tell B`,
 * `arp A is-at MAC to B`, `eth MAC > MAC`, or `key …` in Open vSwitch's notation; with options
 * src= dst= (MAC addresses), ttl= frag= ipid= (of fragments) type= flags= vlan= ethtype=, id= of an echo, about=A:P>B:Q for
 * an ICMP error about a UDP packet (TCP with aboutproto=6), size= of the IPv4 packet, df=yes. MAC addresses may be cut to `:0a` for
 * 02:00:00:00:00:0a, and are found in the topology when they are left out.
 */
import { formatIp } from '../../packet/address.ts'
import { readU16, writeU16 } from '../../packet/bytes.ts'
import { checksum } from '../../packet/checksum.ts'
import { readIcmpQuote } from '../../packet/icmp-quote.ts'
import { formatFlow, formatKey, parseKey } from '../../packet/text.ts'
import { type Kind, kinds, type Port } from '../../topology/model.ts'
import { frameOf } from './frame.ts'
import { balanceChanges, showHealth } from './script-balance.ts'
import { resize, withFragmentId, writeQuoted } from './script-bytes.ts'
import { fromTunnel, hostChanges, hostQueries, showTunnel } from './script-hosts.ts'
import { mirrorChanges } from './script-mirror.ts'
import { policyChanges, type Words } from './script-policy.ts'
import { serviceChanges, serviceQueries } from './script-service.ts'
import { advertiseChanges, byFamily, isPacket6, macOf6, readPacket6, showMore6 } from './script6.ts'
import { host, keyOf, put, type World } from './world.ts'

/** A script says something that its language does not have. */
class ScriptError extends Error {
  override readonly name = 'ScriptError'
  readonly code = 'BAD_SCRIPT'
}

/** Runs one line; returns what it shows. */
export function runLine(world: World, line: string): string[] {
  const [verb = '', ...rest] = line.split(/\s+/)
  const words = splitWords(rest)
  const change = changes[verb]
  if (change !== undefined) return observe(world, () => change(world, words))
  const query = queries[verb]
  if (query === undefined) throw new ScriptError(`no command ${verb}`)
  return query(world, words, rest.slice(1).join(' '))
}

function splitWords(rest: readonly string[]): Words {
  const isOption = (word: string) => /^[a-zA-Z]+=/.test(word)
  const options = rest.filter(isOption).map((word) => {
    const at = word.indexOf('=')
    return [word.slice(0, at), word.slice(at + 1)] as const
  })
  return { plain: rest.filter((word) => !isOption(word)), options: new Map(options) }
}

type Command = (world: World, words: Words) => void

const quoting = new WeakSet<World>()

const changes: Readonly<Record<string, Command>> = {
  ...policyChanges,
  ...serviceChanges,
  ...balanceChanges,
  ...mirrorChanges,
  ...hostChanges,
  ...advertiseChanges,

  quotes: (world) => quoting.add(world),

  bridge: (world, { plain: [id = '', state] }) =>
    world.put(put('bridge', { id, name: id, adminUp: state !== 'down' })),

  router: (world, { plain: [id = '', state] }) =>
    world.put(put('router', { id, name: id, adminUp: state !== 'down' })),

  port(world, words) {
    const { options } = words
    const id = words.plain[0] ?? ''
    world.put(put('port', readPort(world, words)))
    const interfaceName = options.get('if')
    if (interfaceName !== undefined)
      world.put(put('binding', { id, host, interface: interfaceName }))
  },

  link(world, { plain: [a = '', b = ''] }) {
    const [one, other] = [portOf(world, a), portOf(world, b)]
    world.put(put('port', { ...one, peer: b }), put('port', { ...other, peer: a }))
  },

  bind(world, { plain: [id = '', interfaceName = ''], options }) {
    const tunnelKey = Number(options.get('key'))
    const where = { id, host: options.get('host') ?? host, interface: interfaceName }
    world.put(put('binding', tunnelKey > 0 ? { ...where, tunnelKey } : where))
  },

  route(world, { plain: [id = '', , router = '', action = 'port'], options }) {
    const gateway = options.get('via')
    const port = options.get('port')
    const isSix = options.get('to')?.includes(':') === true
    if (action !== 'port' && action !== 'blackhole' && action !== 'reject')
      throw new ScriptError(`no route action ${action}`)
    world.put(
      put('route', {
        id,
        router,
        src: options.get('from') ?? (isSix ? '::/0' : '0.0.0.0/0'),
        dst: options.get('to') ?? '0.0.0.0/0',
        action,
        ...(port === undefined ? {} : { port }),
        ...(gateway === undefined ? {} : { gateway }),
        weight: Number(options.get('weight') ?? 100),
      }),
    )
  },

  remove(world, { plain: [kind, id = ''] }) {
    if (!isKind(kind)) throw new ScriptError(`no removing of ${kind}`)
    world.remove(kind, id)
  },

  /** The agent after this one starts so many seconds after this one has written down its state. */
  restart(world, { options }) {
    const seconds = options.get('remembered')
    const pass = () => {
      world.nowMs += Number(seconds ?? 0) * 1000
    }
    world.restart(pass, seconds !== undefined)
  },

  lose: (world, { plain: [name = ''] }) => world.datapath.loseInterface(name),
  gain: (world, { plain: [name = ''] }) => world.datapath.gainInterface(name),
}

const queries: Readonly<Record<string, (world: World, words: Words, packet: string) => string[]>> =
  {
    send: (world, { plain: [name = ''] }, packet) =>
      observe(world, () => world.send(name, readPacket(world, name, packet))),

    hit(world, { plain: [name = ''] }, packet) {
      const sent = world.send(name, readPacket(world, name, packet))
      return [`out: ${sent.map(({ interface: out }) => out).join(' ') || 'nowhere'}`]
    },

    wait: (world, { plain: [seconds = ''] }) =>
      observe(world, () => world.wait(Number(seconds) * 1000)),

    ...serviceQueries,
    ...hostQueries,

    from: (world, words, packet) =>
      observe(world, () =>
        fromTunnel(world, words, (name, text) => readPacket(world, name, text), packet),
      ),

    flows: (world) => showFlows(world),
    health: (world) => showHealth(world),

    status(world, { plain }) {
      const status: Readonly<Record<string, unknown>> = { ...world.forwarder.status() }
      return plain.map((name) => `${name}: ${JSON.stringify(status[name])}`)
    },

    trace(world, { plain: [port = ''] }, packet) {
      const name = world.topology.get('binding', port)?.interface ?? ''
      const text = packet.startsWith('key ')
        ? packet.slice(4)
        : formatKey(keyOf(readPacket(world, name, packet)))
      return world.forwarder.trace(port, text.replace(/^in_port\(0\),/, '')).text.split('\n')
    },
  }

function readPort(world: World, { plain, options }: Words): Port {
  const [id = '', , device = '', state] = plain
  const adminUp = state !== 'down'
  const peer = world.topology.get('port', id)?.peer
  const common = { id, adminUp, ...(peer === undefined ? {} : { peer }) }
  if (world.topology.get('router', device) === undefined) {
    const stations = options.get('station')?.split(';').map(readStation)
    const vlan = options.has('vlan') ? { vlan: Number(options.get('vlan')) } : {}
    return { ...common, kind: 'bridge', bridge: device, ...vlan, ...(stations && { stations }) }
  }
  const readNeighbor = (text: string) => {
    const [address = '', mac = ''] = text.split('/')
    return { address, mac: fullMac(mac) }
  }
  const neighbors = byFamily(split(options.get('neighbor')))
  const own = byFamily(split(options.get('address')))
  return {
    ...common,
    kind: 'router',
    router: device,
    mac: fullMac(options.get('mac') ?? ''),
    addresses: own.four,
    ...(own.six.length > 0 && { addresses6: own.six }),
    ...(neighbors.four.length > 0 && { neighbors: neighbors.four.map(readNeighbor) }),
    ...(neighbors.six.length > 0 && { neighbors6: neighbors.six.map(readNeighbor) }),
  }
}

function readStation(text: string) {
  const [mac = '', addresses = ''] = text.split('/')
  const { four, six } = byFamily(split(addresses))
  return { mac: fullMac(mac), addresses: four, ...(six.length > 0 && { addresses6: six }) }
}

function split(list: string | undefined): string[] {
  return list === undefined || list === '' ? [] : list.split(',')
}

function fullMac(text: string): string {
  return text.startsWith(':') ? `02:00:00:00:00${text}` : text
}

function portOf(world: World, id: string): Port {
  const port = world.topology.get('port', id)
  if (port === undefined) throw new ScriptError(`no port ${id}`)
  return port
}

function isKind(text: string | undefined): text is Kind {
  return kinds.some((kind) => kind === text)
}

/** What a change or a packet brings about: frames, flows, drops, waiting packets. */
function observe(world: World, act: () => unknown): string[] {
  const flowsBefore = new Set(showFlows(world))
  const before = world.forwarder.status()
  const result = act()
  const sent = [...(Array.isArray(result) ? result : []), ...world.takeSent()]
  const flows = showFlows(world)
  const after = world.forwarder.status()
  const dropped = Object.entries(after.drops).filter(([why, n]) => n !== (before.drops[why] ?? 0))
  return [
    ...[...flowsBefore].filter((flow) => !flows.includes(flow)).map((flow) => `gone: ${flow}`),
    ...flows.filter((flow) => !flowsBefore.has(flow)).map((flow) => `flow: ${flow}`),
    ...sent.map(
      ({ interface: out, frame, tunnel }) =>
        `out ${out}${showTunnel(out, tunnel)}: ${showFrame(frame)}${quoting.has(world) ? showQuote(frame) : ''}${showMore6(frame, quoting.has(world))}`,
    ),
    ...dropped.map(([why]) => `dropped: ${why}`),
    ...(after.parked === before.parked ? [] : [`waiting: ${after.parked}`]),
    ...(after.learned === before.learned ? [] : [`learned: ${after.learned}`]),
    ...(after.connections === before.connections ? [] : [`connections: ${after.connections}`]),
  ]
}

function showFlows(world: World): string[] {
  const name = (text: string) => world.nameOf(Number(text))
  return [...world.datapath.flows()].map(({ key, mask, actions }) =>
    formatFlow({ key, mask }, actions ?? [])
      .replace(/in_port\((\d+)\)/, (_, vport: string) => `in_port(${name(vport)})`)
      .replace(/actions:.*/, (list) => list.replace(/(?<=[:,])(\d+)(?=,|$)/g, name)),
  )
}

function showFrame(frame: Uint8Array): string {
  return formatKey(keyOf(frame)).replace(/^in_port\(0\),/, '')
}

function showQuote(frame: Uint8Array): string {
  const quote = readIcmpQuote(frame)
  if (quote === undefined) return ''
  const { kind, protocol, src, dst, ports } = quote
  if (kind === 'echo') return ` id ${ports & 0xffff}`
  const from = `${formatIp(src)}:${ports & 0xffff}`
  return ` about ${protocol} ${from} > ${formatIp(dst)}:${ports >>> 16}${mtuOf(frame)}`
}

/** What an ICMP error says that a packet may have. */
function mtuOf(frame: Uint8Array): string {
  return frame[34] === 3 && frame[35] === 4 ? ` mtu ${readU16(frame, 40)}` : ''
}

/** A frame that comes in on an interface. */
function readPacket(world: World, interfaceName: string, text: string): Uint8Array {
  const words = splitWords(text.split(/\s+/))
  const ipId = words.options.get('ipid')
  if (ipId !== undefined)
    return withFragmentId(
      readPacket(world, interfaceName, text.replace(/\s*ipid=\S+/, '')),
      Number(ipId),
    )
  if (isPacket6(words.plain)) {
    const macFor6 = (address: string) => macFor(world, interfaceName, address)
    return readPacket6(
      words,
      { macFor: macFor6, gateway: gatewayMac(world, interfaceName) },
      fullMac,
    )
  }
  const frame = readFrame(world, interfaceName, text)
  const { options } = splitWords(text.split(/\s+/))
  const id = options.get('id')
  const about = options.get('about')
  if (options.has('size'))
    return resize(frame, Number(options.get('size')), options.get('df') === 'yes')
  if (id !== undefined) writeU16(frame, 38, Number(id))
  if (about !== undefined) writeQuoted(frame, about, Number(options.get('aboutproto') ?? 17))
  if (id !== undefined || about !== undefined) {
    writeU16(frame, 36, 0)
    writeU16(frame, 36, checksum(frame.subarray(34)))
  }
  return frame
}

function readFrame(world: World, interfaceName: string, text: string): Uint8Array {
  const { plain, options } = splitWords(text.split(/\s+/))
  if (plain[0] === 'key') return frameOf(parseKey(text.slice(4)).key)
  if (plain[0] === 'hex') return Uint8Array.from(Buffer.from(plain[1] ?? '', 'hex'))
  const vlan = options.has('vlan') ? `,vlan(vid=${options.get('vlan')},pcp=0)` : ''
  const { src, dst, rest } = readBody(plain, options)
  const srcMac = options.get('src') ?? macFor(world, interfaceName, src) ?? ':99'
  const dstMac =
    options.get('dst') ?? macFor(world, interfaceName, dst) ?? gatewayMac(world, interfaceName)
  const eth = `eth(src=${fullMac(srcMac)},dst=${fullMac(dstMac)})`
  return frameOf(parseKey(`${eth}${vlan},${rest.replace('SHA', fullMac(srcMac))}`).key)
}

interface Body {
  readonly src: string
  readonly dst: string
  readonly rest: string
}

function readBody(plain: readonly string[], options: Words['options']): Body {
  const [kind, a = '', verb, b = '', , c = ''] = plain
  if (kind === 'eth')
    return { src: a, dst: b, rest: `eth_type(${options.get('ethtype') ?? '0x86dd'})` }
  if (kind === 'arp') {
    const isAsking = a === 'who-has'
    const [spa, tpa, op] = isAsking ? [plain[4] ?? '', verb ?? '', 1] : [a, c, 2]
    const sha = isAsking ? 'SHA' : fullMac(b)
    const rest = `eth_type(0x0806),arp(sip=${spa},tip=${tpa},op=${op},sha=${sha},tha=00:00:00:00:00:00)`
    return { src: isAsking ? spa : b, dst: isAsking ? 'ff:ff:ff:ff:ff:ff' : tpa, rest }
  }
  const proto = { icmp: 1, tcp: 6, udp: 17 }[kind ?? ''] ?? Number(kind)
  const [src = '', srcPort = 0] = a.split(':')
  const [dst = '', dstPort = 0] = b.split(':')
  const frag = options.get('frag') ?? 'no'
  const icmp = `,icmp(type=${options.get('type') ?? 8},code=0)`
  const flags = proto === 6 && options.has('flags') ? `,tcp_flags(${options.get('flags')})` : ''
  const ports = proto === 6 || proto === 17 ? `,${kind}(src=${srcPort},dst=${dstPort})${flags}` : ''
  const l4 = frag === 'later' ? '' : proto === 1 ? icmp : ports
  const ttl = options.get('ttl') ?? '64'
  const ip = `ipv4(src=${src},dst=${dst},proto=${proto},tos=0,ttl=${ttl},frag=${frag})`
  return { src, dst, rest: `eth_type(0x0800),${ip}${l4}` }
}

/** The MAC address of an IPv4 address on the network of an interface. */
function macFor(world: World, interfaceName: string, text: string): string | undefined {
  const ports = world.topology.list('port')
  const bound = world.topology.list('binding').find((one) => one.interface === interfaceName)
  const ingress = ports.find(({ id }) => id === bound?.id)
  if (text.includes('::')) return ingress && macOf6(ports, ingress, text)
  if (text.includes(':')) return text
  if (ingress?.kind === 'router')
    return ingress.neighbors?.find(({ address }) => address === text)?.mac
  for (const port of ports) {
    if (port.kind !== 'bridge' || port.bridge !== ingress?.bridge) continue
    const station = port.stations?.find(({ addresses }) => addresses.includes(text))
    if (station !== undefined) return station.mac
    const peer = ports.find(({ id }) => id === port.peer)
    if (peer?.kind === 'router' && peer.addresses.some((cidr) => cidr.split('/')[0] === text))
      return peer.mac
  }
  return undefined
}

function gatewayMac(world: World, interfaceName: string): string {
  const ports = world.topology.list('port')
  const bound = world.topology.list('binding').find((one) => one.interface === interfaceName)
  const ingress = ports.find(({ id }) => id === bound?.id)
  if (ingress?.kind === 'router') return ingress.mac
  const uplinks = ports.filter((port) => port.kind === 'bridge' && port.bridge === ingress?.bridge)
  const gateways = uplinks.map(({ peer }) => ports.find(({ id }) => id === peer))
  const gateway = gateways.find((port) => port?.kind === 'router')
  return gateway?.kind === 'router' ? gateway.mac : ':fe'
}
