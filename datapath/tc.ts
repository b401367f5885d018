/**
 * The kernel's traffic control, as far as it runs our programs: the `clsact` queueing discipline
 * and `bpf` filters in direct-action mode. Numbers are of linux/pkt_sched.h and linux/pkt_cls.h.
 */
import {
  decodeAttributes,
  findAttribute,
  flag,
  NetlinkError,
  type NetlinkSocket,
  PayloadWriter,
  payloadText,
  payloadU32,
} from './netlink.ts'

export type Direction = 'ingress' | 'egress'

/** A program that an interface runs. */
export interface Filter {
  readonly name: string
  /** The kernel's id of the program, for BPF_PROG_GET_FD_BY_ID. */
  readonly programId: number
}

const newQdisc = 36
const delQdisc = 37
const newFilter = 44
const delFilter = 45
const getFilter = 46
const clsactHandle = 0xffff_0000
const clsactParent = 0xffff_fff1
const parents = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } // TC_H_MIN_INGRESS, _EGRESS
const tca = { kind: 1, options: 2 }
const bpf = { fd: 6, name: 7, flags: 8, id: 11 }
const directAction = 1
/** Our place among an interface's filters: priority, and ETH_P_ALL in network order. */
const info = (0x4d4e << 16) | 0x0300
const handle = 1

/** Makes sure that an interface can run filters; says whether it had to. @throws NetlinkError */
export function ensureClsact(socket: NetlinkSocket, index: number): boolean {
  const payload = tcHeader(index, clsactHandle, clsactParent, 0).attributeText(tca.kind, 'clsact')
  const flags = flag.create | flag.exclusive
  try {
    socket.change(`clsact on interface ${index}`, newQdisc, flags, payload.finish())
    return true
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.code !== 'EEXIST') throw error
    return false
  }
}

/** Takes that away again, with all filters. None, or no interface, is no error. */
export function removeClsact(socket: NetlinkSocket, index: number): void {
  const payload = tcHeader(index, clsactHandle, clsactParent, 0).attributeText(tca.kind, 'clsact')
  try {
    socket.change(`remove clsact of interface ${index}`, delQdisc, 0, payload.finish())
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
  }
}

/** Makes an interface run a program; takes the place of the one before without a gap. */
export function setFilter(
  socket: NetlinkSocket,
  index: number,
  direction: Direction,
  name: string,
  programFd: number,
): void {
  const payload = tcHeader(index, handle, parents[direction], info)
  payload
    .attributeText(tca.kind, 'bpf')
    .nest(tca.options, (options) =>
      options
        .attributeU32(bpf.fd, programFd)
        .attributeText(bpf.name, name)
        .attributeU32(bpf.flags, directAction),
    )
  const flags = flag.create | flag.replace
  socket.change(`program on interface ${index}`, newFilter, flags, payload.finish())
}

/** Takes our filter away. No filter, or no interface, is no error. */
export function removeFilter(socket: NetlinkSocket, index: number, direction: Direction): void {
  const payload = tcHeader(index, handle, parents[direction], info).attributeText(tca.kind, 'bpf')
  try {
    socket.change(`remove program of interface ${index}`, delFilter, 0, payload.finish())
  } catch (error) {
    if (!(error instanceof NetlinkError) || !['ENOENT', 'ENODEV', 'EINVAL'].includes(error.code))
      throw error
  }
}

/** The filter at our place on an interface, if one is there. */
export function findFilter(
  socket: NetlinkSocket,
  index: number,
  direction: Direction,
): Filter | undefined {
  const payload = tcHeader(index, 0, parents[direction], 0).finish()
  let replies: readonly { readonly payload: Uint8Array }[]
  try {
    replies = socket.dump(`filters of interface ${index}`, getFilter, payload)
  } catch (error) {
    // Without clsact, or without the interface, there are no filters.
    if (error instanceof NetlinkError) return undefined
    throw error
  }
  for (const { payload: reply } of replies) {
    const view = new DataView(reply.buffer, reply.byteOffset, reply.byteLength)
    if (reply.length < 20 || view.getUint32(16, true) !== info) continue
    const attributes = decodeAttributes(reply.subarray(20))
    const options = findAttribute(attributes, tca.options)
    if (payloadText(findAttribute(attributes, tca.kind)) !== 'bpf' || !options) continue
    const inner = decodeAttributes(options)
    const programId = payloadU32(findAttribute(inner, bpf.id))
    const name = payloadText(findAttribute(inner, bpf.name))
    if (programId !== undefined && name !== undefined) return { name, programId }
  }
  return undefined
}

/** struct tcmsg, linux/rtnetlink.h */
function tcHeader(
  index: number,
  handleNumber: number,
  parent: number,
  infoNumber: number,
): PayloadWriter {
  return new PayloadWriter().u32(0).u32(index).u32(handleNumber).u32(parent).u32(infoNumber)
}
