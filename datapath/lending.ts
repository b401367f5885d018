/**
 * Interfaces of the host's own that the datapath borrows: what is changed for its time in the
 * datapath is noted in the interface's alias, where it outlives the agent and goes with the
 * interface, and is put back when the interface is given back.
 *
 *   midonet:{"up":false,"ipv6":true,…}      the interface's own alias is kept inside
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseCidr6 } from '../packet/address6.ts'
import { ip6Bytes, ip6Text } from './ip6-bytes.ts'
import {
  decodeAttributes,
  findAttribute,
  flag,
  NetlinkError,
  type NetlinkMessage,
  NetlinkSocket,
  PayloadWriter,
  payloadText,
  payloadU32,
} from './netlink.ts'
import { routeProtocol } from './rtnetlink.ts'
import { settingFile } from './sysctl.ts'
import { ensureClsact, removeClsact, removeFilter } from './tc.ts'

/** Linux keeps that many bytes of an alias: IFALIASZ less the end of string. */
const aliasMax = 255
const mark = 'midonet:'
/** Interfaces that the agent makes for its own use, and removes itself. */
const ownName = /^(m[npub][0-9a-f]{11}|mt-(vxlan|gre|geneve)\d{0,5})$/

const message = { newLink: 16, getLink: 18, newAddress: 20, getAddress: 22 } as const
const ifla = { name: 3, alias: 20 } as const // IFLA_IFNAME, IFLA_IFALIAS
const flags = { up: 0x1, promiscuous: 0x100 } as const // IFF_UP, IFF_PROMISC
const inet6 = 10
const ifaAddress = 1
const ifaPermanent = 0x80 // IFA_F_PERMANENT
const noDad = 0x02 // IFA_F_NODAD
const scopeLink = 253 // RT_SCOPE_LINK

interface Before {
  readonly up: boolean
  readonly promiscuous: boolean
  readonly ipv6: boolean
  /** Whether there was none of the queueing discipline that runs programs. */
  readonly qdisc: boolean
  readonly addresses6: readonly string[]
  readonly alias: string
}

/** Whether the agent has made the interface of that name. */
export function isOwn(name: string): boolean {
  return ownName.test(name)
}

/**
 * Notes how an interface is, and makes it take in frames for whomever. `runsPrograms` says that the
 * datapath needs `clsact` on it. What was noted before stays. @throws NetlinkError
 */
export function borrow(
  socket: NetlinkSocket,
  index: number,
  name: string,
  runsPrograms: boolean,
): void {
  if (isOwn(name)) return
  const state = readLink(socket, index)
  if (state === undefined || state.alias.startsWith(mark)) return
  const before: Before = {
    up: (state.flags & flags.up) !== 0,
    promiscuous: (state.flags & flags.promiscuous) !== 0,
    ipv6: readSetting(name) === '0',
    qdisc: runsPrograms && ensureClsact(socket, index),
    addresses6: addresses6(socket, index),
    alias: state.alias,
  }
  const text = mark + JSON.stringify(before)
  // Too much to be noted whole: addresses are left out before anything else.
  const short = mark + JSON.stringify({ ...before, addresses6: [], alias: '' })
  change(socket, index, 0, 0, Buffer.byteLength(text) <= aliasMax ? text : short)
  change(socket, index, flags.promiscuous, flags.promiscuous, undefined)
}

/** Puts back what was changed. An interface that is gone, or was never borrowed, is no error. */
export function giveBack(socket: NetlinkSocket, index: number): void {
  try {
    const state = readLink(socket, index)
    const before = state && readNote(state.alias)
    if (state === undefined || before === undefined) return
    if (before.qdisc) removeClsact(socket, index)
    const set = (before.up ? flags.up : 0) | (before.promiscuous ? flags.promiscuous : 0)
    change(socket, index, set, flags.up | flags.promiscuous, before.alias)
    // Last: an interface that goes down loses them.
    if (!before.ipv6) return
    writeSetting(state.name, '0')
    for (const cidr of before.addresses6) addAddress6(socket, index, cidr)
  } catch (error) {
    // It can go at any time.
    if (!(error instanceof NetlinkError)) throw error
  }
}

/** Gives back all that is borrowed in the thread's network namespace; says which. */
export function giveAllBack(): readonly string[] {
  const socket = new NetlinkSocket(routeProtocol)
  try {
    const borrowed = socket
      .dump('list links', message.getLink, header(0, 0, 0).finish())
      .map(decodeLinkState)
      .filter(({ alias }) => readNote(alias) !== undefined)
    for (const { index } of borrowed) {
      removeFilter(socket, index, 'ingress')
      giveBack(socket, index)
    }
    return borrowed.map(({ name }) => name)
  } finally {
    socket.close()
  }
}

/** The note of an alias, if it is one; its fields are checked, since anybody can write there. */
export function readNote(alias: string): Before | undefined {
  if (!alias.startsWith(mark)) return undefined
  let value: Readonly<Record<string, unknown>>
  try {
    value = { ...JSON.parse(alias.slice(mark.length)) }
  } catch {
    return undefined
  }
  const { up, promiscuous, ipv6, qdisc, addresses6: list, alias: own } = value
  return {
    up: up === true,
    promiscuous: promiscuous === true,
    ipv6: ipv6 === true,
    qdisc: qdisc === true,
    addresses6: Array.isArray(list) ? list.map(String) : [],
    alias: typeof own === 'string' ? own : '',
  }
}

function readLink(socket: NetlinkSocket, index: number) {
  const [reply] = socket.query('read link', message.getLink, header(index, 0, 0).finish())
  return reply && decodeLinkState(reply)
}

function decodeLinkState({ payload }: NetlinkMessage) {
  const attributes = decodeAttributes(payload.subarray(16))
  return {
    index: payloadU32(payload.subarray(4)) ?? 0,
    name: payloadText(findAttribute(attributes, ifla.name)) ?? '',
    flags: payloadU32(payload.subarray(8)) ?? 0,
    alias: payloadText(findAttribute(attributes, ifla.alias)) ?? '',
  }
}

function change(
  socket: NetlinkSocket,
  index: number,
  set: number,
  mask: number,
  alias: string | undefined,
): void {
  const payload = header(index, set, mask)
  // Without a byte of text the kernel removes the alias.
  if (alias !== undefined) payload.attribute(ifla.alias, Buffer.from(alias))
  socket.change(`change link ${index}`, message.newLink, 0, payload.finish())
}

/** Static addresses but the link's own. */
function addresses6(socket: NetlinkSocket, index: number): readonly string[] {
  const payload = new PayloadWriter().u8(inet6).u8(0).u8(0).u8(0).u32(0).finish()
  const replies = socket.dump('list addresses', message.getAddress, payload)
  return replies.flatMap(({ payload: reply }) => {
    if (payloadU32(reply.subarray(4)) !== index) return []
    const isStatic = ((reply[2] ?? 0) & ifaPermanent) !== 0 && reply[3] !== scopeLink
    const address = findAttribute(decodeAttributes(reply.subarray(8)), ifaAddress)
    return isStatic && address?.length === 16 ? [`${ip6Text(address)}/${reply[1] ?? 0}`] : []
  })
}

function addAddress6(socket: NetlinkSocket, index: number, text: string): void {
  const cidr = parseCidr6(text)
  if (cidr === undefined) return
  // It was there before: no wait for duplicate address detection.
  const payload = new PayloadWriter().u8(inet6).u8(cidr.prefixLength).u8(noDad).u8(0).u32(index)
  payload.attribute(ifaAddress, ip6Bytes(cidr.address))
  try {
    socket.change('add address', message.newAddress, flag.create, payload.finish())
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
  }
}

/** struct ifinfomsg */
function header(index: number, set: number, mask: number): PayloadWriter {
  return new PayloadWriter().u8(0).u8(0).u16(0).u32(index).u32(set).u32(mask)
}

function readSetting(name: string): string {
  try {
    return readFileSync(settingFile(`net/ipv6/conf/${name}/disable_ipv6`), 'utf8').trim()
  } catch {
    return ''
  }
}

function writeSetting(name: string, value: string): void {
  try {
    writeFileSync(settingFile(`net/ipv6/conf/${name}/disable_ipv6`), value)
  } catch {
    // A kernel without IPv6, or a read-only /proc: then it was not changed either.
  }
}
