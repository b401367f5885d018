/** Actions as text, in the notation of Open vSwitch's datapath: `set(eth(src=…,dst=…)),3`. */
import { type Action, actionDepthMax } from './action.ts'
import { formatIp, formatIpv6, formatMac } from './address.ts'
import { type Notation, parseNumber, parseValue, Scanner } from './text-value.ts'
import type { UnderlayAddress } from './tunnel-source.ts'

/** `drop` when there are none. */
export function formatActions(actions: readonly Action[]): string {
  return actions.length === 0 ? 'drop' : actions.map(formatAction).join(',')
}

/**
 * What `formatActions` prints; also sets of several fields, and `tcp`, `udp` or `sctp` for `tp`.
 * @throws TextError
 */
export function parseActions(text: string): readonly Action[] {
  return parseActionsFrom(new Scanner(text))
}

/** Reads actions up to the end of the text. @throws TextError */
export function parseActionsFrom(scanner: Scanner): readonly Action[] {
  const actions = parseList(scanner, 1)
  if (!scanner.atEnd) scanner.fail('"," or the end')
  return actions
}

function parseList(scanner: Scanner, depth: number): readonly Action[] {
  if (depth > actionDepthMax) scanner.fail(`actions in actions ${actionDepthMax} deep at most`)
  const actions: Action[] = []
  if (scanner.takes('drop')) return actions
  do actions.push(...parseAction(scanner, depth))
  while (scanner.takes(','))
  return actions
}

function formatAction(action: Action): string {
  switch (action.kind) {
    case 'output':
      return String(action.port)
    case 'setEth':
      return `set(eth(src=${formatMac(action.src)},dst=${formatMac(action.dst)}))`
    case 'pushVlan':
      return `push_vlan(${formatTci(action.tci)})`
    case 'popVlan':
      return 'pop_vlan'
    case 'setIpSrc':
      return `set(ipv4(src=${formatIp(action.address)}))`
    case 'setIpDst':
      return `set(ipv4(dst=${formatIp(action.address)}))`
    case 'setIpv6Src':
      return `set(ipv6(src=${formatIpv6(action.address)}))`
    case 'setIpv6Dst':
      return `set(ipv6(dst=${formatIpv6(action.address)}))`
    case 'setTtl':
      return `set(ipv4(ttl=${action.ttl}))`
    case 'setTos':
      return `set(ipv4(tos=${formatHex(action.tos)}))`
    case 'setTpSrc':
      return `set(tp(src=${action.port}))`
    case 'setTpDst':
      return `set(tp(dst=${action.port}))`
    case 'setArp':
      return formatArp(action)
    case 'setTunnel':
      return formatTunnel(action)
    case 'meter':
      return `meter(${action.id})`
    case 'checkPacketLength': {
      const greater = formatActions(action.greater)
      const lessEqual = formatActions(action.lessEqual)
      return `check_pkt_len(size=${action.length},gt(${greater}),le(${lessEqual}))`
    }
    case 'clone':
      return `clone(${formatActions(action.actions)})`
    case 'ct':
      return formatConntrack(action)
    case 'recirculate':
      return `recirc(${formatHex(action.id)})`
    case 'userspace':
      return `userspace(reason=${action.reason})`
  }
}

function formatArp({ op, sha, spa, tha, tpa }: Extract<Action, { kind: 'setArp' }>): string {
  const addresses = `sip=${formatIp(spa)},tip=${formatIp(tpa)}`
  return `set(arp(${addresses},op=${op},sha=${formatMac(sha)},tha=${formatMac(tha)}))`
}

function formatTunnel({ id, dst, src }: Extract<Action, { kind: 'setTunnel' }>): string {
  const text = [`tun_id=${formatHex(id)}`, formatEnd('src', src), formatEnd('dst', dst)]
  return `set(tunnel(${text.join(',')}))`
}

function formatEnd(name: string, address: UnderlayAddress): string {
  if (typeof address === 'number') return `${name}=${formatIp(address)}`
  return `ipv6_${name}=${formatIpv6(address)}`
}

function formatConntrack({ commit, zone, mark }: Extract<Action, { kind: 'ct' }>): string {
  const parts = commit ? ['commit'] : []
  if (zone !== 0) parts.push(`zone=${zone}`)
  if (mark !== undefined) parts.push(`mark=${formatHex(mark.value)}/${formatHex(mark.mask)}`)
  return parts.length === 0 ? 'ct' : `ct(${parts.join(',')})`
}

/** `cfi` is printed where it is set, though it does nothing. */
function formatTci(tci: number): string {
  return `vid=${tci & 0xfff},pcp=${tci >>> 13}${tci & 0x1000 ? ',cfi=1' : ''}`
}

function formatHex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`
}

interface Shape {
  readonly notation: Notation
  readonly bits: number
}

const shapes = {
  mac: { notation: 'mac', bits: 48 },
  ip: { notation: 'ip', bits: 32 },
  u32: { notation: 'decimal', bits: 32 },
  u16: { notation: 'decimal', bits: 16 },
  u12: { notation: 'decimal', bits: 12 },
  u8: { notation: 'decimal', bits: 8 },
  u3: { notation: 'decimal', bits: 3 },
  bit: { notation: 'decimal', bits: 1 },
} as const satisfies Record<string, Shape>

/** Fields in the order given. */
type Fields = ReadonlyMap<string, number>

function parseAction(scanner: Scanner, depth: number): readonly Action[] {
  const position = scanner.position
  const word = scanner.word()
  if (/^\d{1,10}$/.test(word) && Number(word) <= 0xffff_ffff)
    return [{ kind: 'output', port: Number(word) }]
  switch (word) {
    case 'set':
      return parseSet(scanner)
    case 'push_vlan':
      return [parsePushVlan(scanner)]
    case 'pop_vlan':
      return [{ kind: 'popVlan' }]
    case 'userspace':
      return [{ kind: 'userspace', reason: parseAll(scanner, { reason: shapes.u32 })('reason') }]
    case 'meter':
      scanner.expect('(')
      return [{ kind: 'meter', id: endAt(scanner, ')', parseNumber(scanner, 'decimal', 32)) }]
    case 'check_pkt_len':
      return [parseCheckLength(scanner, depth)]
    case 'clone':
      scanner.expect('(')
      return [{ kind: 'clone', actions: endAt(scanner, ')', parseList(scanner, depth + 1)) }]
    case 'ct':
      return [parseConntrack(scanner)]
    case 'recirc':
      return [parseRecirculation(scanner)]
    default:
      return scanner.fail(
        'a port number, set, meter, check_pkt_len, clone, ct, recirc, push_vlan, pop_vlan or userspace',
        position,
      )
  }
}

function parseCheckLength(scanner: Scanner, depth: number): Action {
  scanner.expect('(')
  scanner.expect('size=')
  const length = parseNumber(scanner, 'decimal', 16)
  scanner.expect(',gt(')
  const greater = endAt(scanner, ')', parseList(scanner, depth + 1))
  scanner.expect(',le(')
  const lessEqual = endAt(scanner, ')', parseList(scanner, depth + 1))
  return endAt(scanner, ')', { kind: 'checkPacketLength', length, greater, lessEqual })
}

/** `ct`, or `ct(commit,zone=5,mark=0x1/0xff)`; a mark without a mask is a whole one. */
function parseConntrack(scanner: Scanner): Action {
  let [commit, zone] = [false, 0]
  let mark: { value: number; mask: number } | undefined
  if (scanner.takes('('))
    do {
      const position = scanner.position
      const word = scanner.word()
      if (word === 'commit') commit = true
      else if (word === 'zone') zone = readAfterEquals(scanner, 16)
      else if (word === 'mark') {
        const value = readAfterEquals(scanner, 32)
        const mask = scanner.takes('/') ? parseNumber(scanner, 'hex', 32) : 0xffff_ffff
        mark = { value, mask }
      } else scanner.fail('commit, zone= or mark=', position)
    } while (!endsList(scanner))
  return { kind: 'ct', zone, commit, ...(mark === undefined ? {} : { mark }) }
}

function readAfterEquals(scanner: Scanner, bits: number): number {
  scanner.expect('=')
  return parseNumber(scanner, 'hex', bits)
}

/** Moves over a comma, or over the end of the list: then true. */
function endsList(scanner: Scanner): boolean {
  if (scanner.takes(',')) return false
  scanner.expect(')')
  return true
}

function parseRecirculation(scanner: Scanner): Action {
  scanner.expect('(')
  const position = scanner.position
  const id = parseNumber(scanner, 'hex', 16)
  if (id === 0) scanner.fail('a number from 1 to 0xffff', position)
  return endAt(scanner, ')', { kind: 'recirculate', id })
}

function endAt<T>(scanner: Scanner, end: string, value: T): T {
  scanner.expect(end)
  return value
}

function parsePushVlan(scanner: Scanner): Action {
  const given = parseFields(scanner, { vid: shapes.u12, pcp: shapes.u3, cfi: shapes.bit })
  const [vid = 0, pcp = 0, cfi = 0] = ['vid', 'pcp', 'cfi'].map((name) => given.get(name))
  return { kind: 'pushVlan', tci: vid | (cfi << 12) | (pcp << 13) }
}

function parseSet(scanner: Scanner): readonly Action[] {
  scanner.expect('(')
  const position = scanner.position
  const parse = setters.get(scanner.word())
  if (parse === undefined) scanner.fail(`one of ${[...setters.keys()].join(', ')}`, position)
  const actions = parse(scanner)
  scanner.expect(')')
  return actions
}

const setters: ReadonlyMap<string, (scanner: Scanner) => readonly Action[]> = new Map([
  ['eth', parseSetEth],
  ['ipv4', parseSetIpv4],
  ['ipv6', parseSetIpv6],
  ['tp', parseSetPorts],
  ['tcp', parseSetPorts],
  ['udp', parseSetPorts],
  ['sctp', parseSetPorts],
  ['arp', parseSetArp],
  ['tunnel', parseSetTunnel],
])

function parseSetEth(scanner: Scanner): readonly Action[] {
  const given = parseAll(scanner, { dst: shapes.mac, src: shapes.mac })
  return [{ kind: 'setEth', dst: given('dst'), src: given('src') }]
}

function parseSetIpv4(scanner: Scanner): readonly Action[] {
  const { ip, u8 } = shapes
  const given = parseFields(scanner, { src: ip, dst: ip, tos: u8, ttl: u8 })
  return [...given].map(([name, value]): Action => {
    if (name === 'src') return { kind: 'setIpSrc', address: value }
    if (name === 'dst') return { kind: 'setIpDst', address: value }
    return name === 'tos' ? { kind: 'setTos', tos: value } : { kind: 'setTtl', ttl: value }
  })
}

/** Traffic class and hop limit are IPv4's type of service and time to live by other names. */
function parseSetIpv6(scanner: Scanner): readonly Action[] {
  const given = new Map<string, Action>()
  scanner.list(() => {
    const position = scanner.position
    const name = scanner.word()
    if (given.has(name) || !['src', 'dst', 'tclass', 'hlimit'].includes(name))
      scanner.fail('one of src, dst, tclass, hlimit, each once', position)
    scanner.expect('=')
    given.set(name, parseIpv6Field(scanner, name))
  })
  return [...given.values()]
}

function parseIpv6Field(scanner: Scanner, name: string): Action {
  if (name === 'tclass') return { kind: 'setTos', tos: parseNumber(scanner, 'decimal', 8) }
  if (name === 'hlimit') return { kind: 'setTtl', ttl: parseNumber(scanner, 'decimal', 8) }
  const address = parseValue(scanner, 'ipv6', 128)
  return { kind: name === 'src' ? 'setIpv6Src' : 'setIpv6Dst', address }
}

function parseSetPorts(scanner: Scanner): readonly Action[] {
  const given = parseFields(scanner, { src: shapes.u16, dst: shapes.u16 })
  return [...given].map(([name, port]) => ({
    kind: name === 'src' ? 'setTpSrc' : 'setTpDst',
    port,
  }))
}

function parseSetArp(scanner: Scanner): readonly Action[] {
  const { mac, ip, u16 } = shapes
  const given = parseAll(scanner, { sip: ip, tip: ip, op: u16, sha: mac, tha: mac })
  const [spa, tpa, sha, tha] = [given('sip'), given('tip'), given('sha'), given('tha')]
  return [{ kind: 'setArp', op: given('op'), sha, spa, tha, tpa }]
}

/** Either `src` and `dst`, or `ipv6_src` and `ipv6_dst`. */
function parseSetTunnel(scanner: Scanner): readonly Action[] {
  const given = new Map<string, UnderlayAddress>()
  scanner.list(() => {
    const { position } = scanner
    const name = scanner.word()
    if (!tunnelWords.has(name) || given.has(name))
      scanner.fail(`one of ${[...tunnelWords].join(', ')}, each once`, position)
    scanner.expect('=')
    if (name.startsWith('ipv6_')) given.set(name, parseValue(scanner, 'ipv6', 128))
    else given.set(name, parseNumber(scanner, name === 'tun_id' ? 'hex' : 'ip', 32))
  })
  const [id, family] = [given.get('tun_id'), given.has('ipv6_dst') ? 'ipv6_' : '']
  const [dst, src] = [given.get(`${family}dst`), given.get(`${family}src`)]
  if (typeof id !== 'number' || dst === undefined || src === undefined || given.size !== 3)
    return scanner.fail('tun_id=, src= and dst= of one family in this group')
  return [{ kind: 'setTunnel', id, dst, src }]
}

const tunnelWords: ReadonlySet<string> = new Set(['tun_id', 'src', 'dst', 'ipv6_src', 'ipv6_dst'])

/** Reads `(name=value,…)`, each name at most once. */
function parseFields(scanner: Scanner, known: Readonly<Record<string, Shape>>): Fields {
  const given = new Map<string, number>()
  scanner.list(() => {
    const position = scanner.position
    const name = scanner.word()
    const shape = Object.hasOwn(known, name) ? known[name] : undefined
    if (shape === undefined || given.has(name))
      scanner.fail(`one of ${Object.keys(known).join(', ')}, each once`, position)
    scanner.expect('=')
    given.set(name, parseNumber(scanner, shape.notation, shape.bits))
  })
  return given
}

/** As `parseFields`, where none may be missing: the result says the value of each. */
function parseAll<Name extends string>(
  scanner: Scanner,
  known: Readonly<Record<Name, Shape>>,
): (name: Name) => number {
  const given = parseFields(scanner, known)
  const { position } = scanner
  return (name) => given.get(name) ?? scanner.fail(`${name}= in this group`, position)
}
