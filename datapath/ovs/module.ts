/** The kernel module as objects: its datapath and vports, asked one at a time. */
import { DatapathError } from '../datapath.ts'
import {
  type Attribute,
  decodeAttributes,
  findAttribute,
  NetlinkError,
  type NetlinkMessage,
  NetlinkSocket,
  PayloadWriter,
  payloadText,
  payloadU32,
} from '../netlink.ts'
import {
  control,
  datapathAttr,
  datapathCommand,
  datapathVersion,
  featureUnaligned,
  flowAttr,
  flowCommand,
  genericProtocol,
  vportAttr,
  vportCommand,
  vportNetdev,
} from './protocol.ts'

/** Ids of the module's generic netlink families, which differ from boot to boot. */
export interface Families {
  readonly datapath: number
  readonly vport: number
  readonly flow: number
  readonly packet: number
  /** 0 where the module has no meters. */
  readonly meter: number
}

export interface ModuleVport {
  readonly number: number
  readonly type: number
  readonly name: string
  readonly ifindex: number
}

/** What the datapath has counted since it was made. */
export interface ModuleStats {
  readonly misses: number
  readonly lost: number
}

/** A flow as the kernel shows it; the parts are views. */
export interface ModuleFlow {
  readonly ufid: Uint8Array | undefined
  readonly key: Uint8Array
  readonly mask: Uint8Array
  readonly actions: Uint8Array
  readonly packets: number
  readonly bytes: number
  /** CLOCK_MONOTONIC of the last packet; 0 when there has been none. */
  readonly usedMs: number
}

/** One of the module's datapaths. */
export class Module {
  readonly families: Families
  readonly datapath: number
  readonly #socket: NetlinkSocket

  /** Makes the datapath, or takes the one there is. @throws DatapathError */
  constructor(name: string) {
    this.#socket = new NetlinkSocket(genericProtocol)
    try {
      this.families = findFamilies(this.#socket)
      this.datapath = this.#create(name)
    } catch (error) {
      this.#socket.close()
      throw asDatapathError(error)
    }
  }

  /** Takes an interface in, with a number if it is free. @throws DatapathError */
  createVport(name: string, number: number | undefined, upcallPid: number): ModuleVport {
    const payload = this.#payload(vportCommand.create)
    if (number !== undefined) payload.attributeU32(vportAttr.number, number)
    payload.attributeU32(vportAttr.type, vportNetdev).attributeText(vportAttr.name, name)
    payload.attributeU32(vportAttr.upcallPid, upcallPid)
    this.change(`take in ${name}`, this.families.vport, payload)
    const asked = this.#payload(vportCommand.get).attributeText(vportAttr.name, name).finish()
    const [vport] = this.#guard(() =>
      this.#socket.query(`find vport ${name}`, this.families.vport, asked).map(readVport),
    )
    if (vport === undefined) throw new DatapathError('ENODEV', `vport ${name} has gone again`)
    return vport
  }

  /** Says where a vport's packets go that no flow matches. @throws DatapathError */
  directVport(number: number, upcallPid: number): void {
    const payload = this.#payload(vportCommand.set).attributeU32(vportAttr.number, number)
    payload.attributeU32(vportAttr.upcallPid, upcallPid)
    this.change(`set up vport ${number}`, this.families.vport, payload)
  }

  /** Unknown numbers are no error. @throws DatapathError */
  removeVport(number: number): void {
    const payload = this.#payload(vportCommand.remove).attributeU32(vportAttr.number, number)
    this.change(`remove vport ${number}`, this.families.vport, payload, ['ENODEV'])
  }

  /** All vports but the module's own one. @throws DatapathError */
  vports(): readonly ModuleVport[] {
    const payload = this.#payload(vportCommand.get).finish()
    return this.#guard(() => this.#socket.dump('list vports', this.families.vport, payload))
      .map(readVport)
      .filter(({ number }) => number !== 0)
  }

  /** @throws DatapathError */
  stats(): ModuleStats {
    const payload = this.#payload(datapathCommand.get, datapathVersion).finish()
    const [reply] = this.#guard(() =>
      this.#socket.query('read the datapath', this.families.datapath, payload),
    )
    const stats =
      reply === undefined ? undefined : findAttribute(attributesOf(reply), datapathAttr.stats)
    if (stats === undefined || stats.length < 32) return { misses: 0, lost: 0 }
    return { misses: readU64(stats, 8), lost: readU64(stats, 16) }
  }

  /** Every flow with all its parts. @throws DatapathError */
  flows(): readonly ModuleFlow[] {
    const payload = this.#payload(flowCommand.get).finish()
    return this.#guard(() => this.#socket.dump('list flows', this.families.flow, payload)).map(
      readFlow,
    )
  }

  /** Removes a flow by what the kernel showed of it. @throws DatapathError */
  removeFlow({ ufid, key }: ModuleFlow): void {
    const payload = this.#payload(flowCommand.remove)
    if (ufid !== undefined) payload.attribute(flowAttr.ufid, ufid)
    else payload.attribute(flowAttr.key, key)
    this.change('remove a flow', this.families.flow, payload, ['ENOENT'])
  }

  close(): void {
    this.#socket.close()
  }

  #create(name: string): number {
    const payload = header(datapathCommand.create, datapathVersion, 0)
    payload.attributeText(datapathAttr.name, name).attributeU32(datapathAttr.upcallPid, 0)
    payload.attributeU32(datapathAttr.userFeatures, featureUnaligned)
    this.change(`create datapath ${name}`, this.families.datapath, payload, ['EEXIST'])
    const index = findDatapath(this.#socket, this.families.datapath, name)
    if (index === undefined)
      throw new DatapathError('ENODEV', `datapath ${name} cannot be made: ${name} is a link`)
    return index
  }

  #payload(command: number, version = 1): PayloadWriter {
    return header(command, version, this.datapath)
  }

  /** Asks for one thing; undefined when the error's name is `absent`. @throws DatapathError */
  ask(
    name: string,
    type: number,
    payload: PayloadWriter,
    absent: string,
  ): readonly Attribute[] | undefined {
    try {
      const [reply] = this.#socket.query(name, type, payload.finish())
      return reply === undefined ? undefined : attributesOf(reply)
    } catch (error) {
      if (error instanceof NetlinkError && error.code === absent) return undefined
      throw asDatapathError(error)
    }
  }

  /** A change; errors of these names are none. @throws DatapathError */
  change(
    name: string,
    type: number,
    payload: PayloadWriter,
    harmless: readonly string[] = [],
  ): void {
    try {
      this.#socket.change(name, type, 0, payload.finish())
    } catch (error) {
      if (error instanceof NetlinkError && harmless.includes(error.code)) return
      throw asDatapathError(error)
    }
  }

  #guard<T>(run: () => T): T {
    try {
      return run()
    } catch (error) {
      throw asDatapathError(error)
    }
  }
}

/** Takes the datapath of this name away, with its flows; the interfaces stay. */
export function removeDatapath(name: string): boolean {
  const socket = new NetlinkSocket(genericProtocol)
  try {
    const { datapath } = findFamilies(socket)
    const index = findDatapath(socket, datapath, name)
    if (index === undefined) return false
    const payload = header(datapathCommand.remove, datapathVersion, index).finish()
    socket.change(`remove datapath ${name}`, datapath, 0, payload)
    return true
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return false
    throw asDatapathError(error)
  } finally {
    socket.close()
  }
}

function findDatapath(socket: NetlinkSocket, family: number, name: string): number | undefined {
  const payload = header(datapathCommand.get, datapathVersion, 0)
    .attributeText(datapathAttr.name, name)
    .finish()
  try {
    const [reply] = socket.query(`find datapath ${name}`, family, payload)
    return reply === undefined ? undefined : payloadU32(reply.payload.subarray(4))
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENODEV') return undefined
    throw error
  }
}

/** Asking for a family makes the kernel load the module that has it. */
function findFamilies(socket: NetlinkSocket): Families {
  const find = (name: string): number => {
    const payload = new PayloadWriter().u8(control.getFamily).u8(1).u16(0)
    const [reply] = socket.query(
      `find ${name}`,
      control.family,
      payload.attributeText(control.attrName, name).finish(),
    )
    const id = findAttribute(decodeAttributes(reply?.payload.subarray(4) ?? none), control.attrId)
    return id === undefined ? 0 : (id[0] ?? 0) | ((id[1] ?? 0) << 8)
  }
  return {
    datapath: find('ovs_datapath'),
    vport: find('ovs_vport'),
    flow: find('ovs_flow'),
    packet: find('ovs_packet'),
    meter: findMeters(find),
  }
}

/** Modules before Linux 4.15 have none. */
function findMeters(find: (name: string) => number): number {
  try {
    return find('ovs_meter')
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return 0
    throw error
  }
}

const none = new Uint8Array()

/** genlmsghdr and ovs_header */
export function header(command: number, version: number, datapath: number): PayloadWriter {
  return new PayloadWriter().u8(command).u8(version).u16(0).u32(datapath)
}

function attributesOf({ payload }: NetlinkMessage): readonly Attribute[] {
  return decodeAttributes(payload.subarray(8))
}

function readVport(message: NetlinkMessage): ModuleVport {
  const attributes = attributesOf(message)
  const number = (type: number): number => payloadU32(findAttribute(attributes, type)) ?? 0
  return {
    number: number(vportAttr.number),
    type: number(vportAttr.type),
    name: payloadText(findAttribute(attributes, vportAttr.name)) ?? '',
    ifindex: number(vportAttr.ifindex),
  }
}

function readFlow(message: NetlinkMessage): ModuleFlow {
  const attributes = attributesOf(message)
  const stats = findAttribute(attributes, flowAttr.stats)
  const used = findAttribute(attributes, flowAttr.used)
  return {
    ufid: findAttribute(attributes, flowAttr.ufid),
    key: findAttribute(attributes, flowAttr.key) ?? none,
    mask: findAttribute(attributes, flowAttr.mask) ?? none,
    actions: findAttribute(attributes, flowAttr.actions) ?? none,
    packets: stats === undefined ? 0 : readU64(stats, 0),
    bytes: stats === undefined ? 0 : readU64(stats, 8),
    usedMs: used === undefined ? 0 : readU64(used, 0),
  }
}

/** As far as a number can hold it. */
export function readU64(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000
}

const advice: Readonly<Record<string, string>> = {
  ENOENT: 'this kernel has no openvswitch module; install or load it, or take the ebpf datapath',
  EPERM: 'run as root with CAP_NET_ADMIN',
  EBUSY: 'the interface belongs to another bridge or datapath; take it out there first',
}

function asDatapathError(error: unknown): unknown {
  if (!(error instanceof NetlinkError)) return error
  const hint = advice[error.code]
  const message = hint === undefined ? error.message : `${error.message}: ${hint}`
  return new DatapathError(error.code, message, { cause: error })
}
