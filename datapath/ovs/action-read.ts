/** Actions out of the kernel's attributes, as `action.ts` writes them, and cookies. */
import type { Action } from '../../packet/action.ts'
import { addressOf6 } from '../../packet/address6.ts'
import { readU16, readU32 } from '../../packet/bytes.ts'
import { etherTypeVlan } from '../../packet/extract.ts'
import { parseActions, TextError } from '../../packet/text.ts'
import type { UnderlayAddress } from '../../packet/tunnel-source.ts'
import { type Attribute, decodeAttributes, findAttribute, payloadU32 } from '../netlink.ts'
import { hostU32 } from './key.ts'
import {
  actionAttr,
  checkLengthAttr,
  ctAttr,
  keyAttr,
  tagPresent,
  tunnelAttr,
  userspaceAttr,
} from './protocol.ts'
import { readIpv4Set, readIpv6Set } from './set-ip.ts'

/** First words of a cookie: 'mid', and what follows it: a reason, */
export const cookieReason = 0x0164_696d
/** or actions as text. */
export const cookieActions = 0x0264_696d

/** What a cookie that came back with a packet says. */
export type Cookie =
  | { readonly kind: 'reason'; readonly reason: number }
  | { readonly kind: 'actions'; readonly actions: readonly Action[] }

/** Undefined when the cookie is not ours. */
export function readCookie(bytes: Uint8Array): Cookie | undefined {
  const first = payloadU32(bytes)
  if (first === cookieReason) return { kind: 'reason', reason: payloadU32(bytes.subarray(4)) ?? 0 }
  if (first !== cookieActions) return undefined
  try {
    return { kind: 'actions', actions: parseActions(Buffer.from(bytes.subarray(4)).toString()) }
  } catch (error) {
    if (error instanceof TextError) return undefined
    throw error
  }
}

/** The actions of a flow in the kernel, from `start` to `end`; undefined when some are not of our making. */
export function readActions(
  bytes: Uint8Array,
  start = 0,
  end = bytes.length,
): readonly Action[] | undefined {
  // Many thousand flows may be read at once, and nearly all only send packets out of one port.
  if (end - start === 8 && hostU32(bytes, start) === oneOutput)
    return outputTo(hostU32(bytes, start + 4))
  const actions: Action[] = []
  for (const attribute of decodeAttributes(bytes.subarray(start, end))) {
    const read = readAction(attribute)
    if (read === undefined) return undefined
    actions.push(...read)
  }
  return actions
}

/** The word that the attribute of an output starts with. */
const oneOutput = 8 | (actionAttr.output << 16)

/** The list that was made last. */
let lastOutput: readonly [{ readonly kind: 'output'; readonly port: number }] | undefined

function outputTo(port: number): readonly Action[] {
  if (lastOutput?.[0].port === port) return lastOutput
  lastOutput = [{ kind: 'output', port }]
  return lastOutput
}

function readAction({ type, payload }: Attribute): readonly Action[] | undefined {
  switch (type) {
    case actionAttr.output:
      return [{ kind: 'output', port: payloadU32(payload) ?? 0 }]
    case actionAttr.pushVlan:
      if (readU16(payload, 0) !== etherTypeVlan) return undefined
      return [{ kind: 'pushVlan', tci: readU16(payload, 2) & ~tagPresent }]
    case actionAttr.popVlan:
      return [{ kind: 'popVlan' }]
    case actionAttr.userspace:
      return readUserspace(payload)
    case actionAttr.meter:
      return [{ kind: 'meter', id: payloadU32(payload) ?? 0 }]
    case actionAttr.clone: {
      const inner = readActions(payload)
      return inner && [{ kind: 'clone', actions: inner }]
    }
    case actionAttr.ct:
      return readConntrack(decodeAttributes(payload))
    case actionAttr.recirculate: {
      const id = payloadU32(payload) ?? 0
      return id === 0 || id > 0xffff ? undefined : [{ kind: 'recirculate', id }]
    }
    case actionAttr.checkLength:
      return readCheckLength(decodeAttributes(payload))
    case actionAttr.set:
    case actionAttr.setMasked:
      return readSet(decodeAttributes(payload)[0])
    default:
      return undefined
  }
}

function readCheckLength(attributes: readonly Attribute[]): readonly Action[] | undefined {
  const length = findAttribute(attributes, checkLengthAttr.length)
  const [greater, lessEqual] = [checkLengthAttr.greater, checkLengthAttr.lessEqual].map((type) =>
    readActions(findAttribute(attributes, type) ?? new Uint8Array(0)),
  )
  if (length === undefined || greater === undefined || lessEqual === undefined) return undefined
  const size = (length[0] ?? 0) | ((length[1] ?? 0) << 8)
  return [{ kind: 'checkPacketLength', length: size, greater, lessEqual }]
}

/** Undefined when it has more than our action can say. */
function readConntrack(attributes: readonly Attribute[]): readonly Action[] | undefined {
  if (attributes.some(({ type }) => !ctKnown.has(type))) return undefined
  const zone = findAttribute(attributes, ctAttr.zone)
  const mark = findAttribute(attributes, ctAttr.mark)
  return [
    {
      kind: 'ct',
      zone: zone === undefined ? 0 : (zone[0] ?? 0) | ((zone[1] ?? 0) << 8),
      commit: findAttribute(attributes, ctAttr.commit) !== undefined,
      ...(mark === undefined
        ? {}
        : {
            mark: {
              value: payloadU32(mark.subarray(0, 4)) ?? 0,
              mask: payloadU32(mark.subarray(4)) ?? 0,
            },
          }),
    },
  ]
}

const ctKnown: ReadonlySet<number> = new Set(Object.values(ctAttr))

function readUserspace(payload: Uint8Array): readonly Action[] | undefined {
  const data = findAttribute(decodeAttributes(payload), userspaceAttr.userdata)
  const cookie = data === undefined ? undefined : readCookie(data)
  if (cookie === undefined) return undefined
  return cookie.kind === 'actions' ? cookie.actions : [{ kind: 'userspace', reason: cookie.reason }]
}

function readSet(attribute: Attribute | undefined): readonly Action[] | undefined {
  if (attribute === undefined) return undefined
  const { type, payload } = attribute
  switch (type) {
    case keyAttr.ethernet:
      if (payload.length < 24) return undefined
      return [{ kind: 'setEth', src: readMac(payload, 0), dst: readMac(payload, 6) }]
    case keyAttr.ipv4:
      return payload.length < 24 ? undefined : readIpv4Set(payload)
    case keyAttr.ipv6:
      return payload.length < 80 ? undefined : readIpv6Set(payload)
    case keyAttr.tcp:
    case keyAttr.udp:
      return payload.length < 8 ? undefined : readPortSet(payload)
    case keyAttr.tunnel:
      return readTunnelSet(decodeAttributes(payload))
    default:
      return undefined
  }
}

function readMac(bytes: Uint8Array, at: number): number {
  return readU16(bytes, at) * 0x1_0000_0000 + readU32(bytes, at + 2)
}

function readPortSet(payload: Uint8Array): readonly Action[] {
  const actions: Action[] = []
  if (readU16(payload, 4) !== 0) actions.push({ kind: 'setTpSrc', port: readU16(payload, 0) })
  if (readU16(payload, 6) !== 0) actions.push({ kind: 'setTpDst', port: readU16(payload, 2) })
  return actions
}

function readTunnelSet(attributes: readonly Attribute[]): readonly Action[] | undefined {
  const id = findAttribute(attributes, tunnelAttr.id)
  const dst = readEnd(attributes, tunnelAttr.dst, tunnelAttr.ipv6Dst)
  if (id?.length !== 8 || dst === undefined) return undefined
  const src = readEnd(attributes, tunnelAttr.src, tunnelAttr.ipv6Src) ?? 0
  return [{ kind: 'setTunnel', id: readU32(id, 4), dst, src }]
}

function readEnd(
  attributes: readonly Attribute[],
  type4: number,
  type6: number,
): UnderlayAddress | undefined {
  const [four, six] = [findAttribute(attributes, type4), findAttribute(attributes, type6)]
  if (four?.length === 4) return readU32(four, 0)
  if (six?.length !== 16) return undefined
  const word = (index: number) => readU32(six, 4 * index)
  return addressOf6([word(0), word(1), word(2), word(3)])
}
