/** The requests about flows and packets, each written behind the one before. */
import { type Action, actionDepth, actionDepthMax } from '../../packet/action.ts'
import { createKey, type FlowKey, maskKey } from '../../packet/flow-key.ts'
import { DatapathError, type FlowId } from '../datapath.ts'
import { areOutputs, writeActions, writeOutputs, writeSlowActions } from './action.ts'
import type { FlowRecords } from './flow-record.ts'
import { writeKey } from './key.ts'
import type { KernelMatch } from './match.ts'
import type { Module } from './module.ts'
import type { Output } from './output.ts'
import { layersOf } from './plain-key.ts'
import { flowAttr, flowCommand, keyAttr, packetAttr, packetCommand, vportsMax } from './protocol.ts'
import type { Shape } from './shape.ts'

export const limits = {
  /** The kernel takes 32 KiB; the time that a packet takes is bounded by less. */
  actionsSize: 4096,
} as const

/** NLM_F_REQUEST; an answer comes only where the kernel refuses. */
const request = 1

export interface RequestParts {
  readonly module: Module
  readonly records: FlowRecords
  /** Where packets of a vport go that an action hands over. */
  readonly portId: (vport: number) => number
  readonly out: Output
}

export class Requests {
  readonly #parts: RequestParts
  readonly #key = createKey()

  constructor(parts: RequestParts) {
    this.#parts = parts
  }

  /** Has a flow made, or replaced when it is there. @throws DatapathError */
  create(
    sequence: number,
    id: FlowId,
    key: FlowKey,
    shape: Shape,
    actions: readonly Action[],
    isSlow: boolean,
  ): void {
    const { module, records, out } = this.#parts
    const isSent = areOutputs(actions)
    checkSize(actions, isSent)
    // Without NLM_F_CREATE: made, or replaced when it is there.
    out.begin(module.families.flow, request, sequence, flowCommand.create, module.datapath)
    try {
      records.writeUfid(id, out)
      this.#writeMatch(key, shape)
      const list = out.nest(flowAttr.actions)
      if (isSent) writeOutputs(out, actions)
      else this.#writeActions(key, shape, actions, isSlow)
      out.close(list)
    } catch (error) {
      out.cancel()
      throw error
    }
    out.end()
  }

  remove(sequence: number, id: FlowId): void {
    const { module, records, out } = this.#parts
    out.begin(module.families.flow, request, sequence, flowCommand.remove, module.datapath)
    records.writeUfid(id, out)
    out.end()
  }

  /** Has a packet sent through actions; `key` is the packet's. @throws DatapathError */
  execute(
    sequence: number,
    packet: Uint8Array,
    inPort: number,
    actions: readonly Action[],
    key: FlowKey,
  ): void {
    checkSize(actions, areOutputs(actions))
    const { module, out } = this.#parts
    out.begin(module.families.packet, request, sequence, packetCommand.execute, module.datapath)
    out.attributeBytes(packetAttr.packet, packet)
    const metadata = out.nest(packetAttr.key)
    if (inPort < vportsMax) out.attribute32(keyAttr.inPort, inPort)
    out.close(metadata)
    const list = out.nest(packetAttr.actions)
    const isAsked = actions.some(asksAgent)
    writeActions(out, isAsked ? actions.filter((one) => !asksAgent(one)) : actions, key, 0)
    out.close(list)
    out.end()
  }

  #writeMatch(key: FlowKey, { mask, maskWords, layers }: Shape): void {
    const { out } = this.#parts
    if (layers !== layersOf.none && (key[0] ?? 0) < vportsMax)
      out.plainKey(flowAttr.key, key, mask, layers)
    else this.#writeMasked(flowAttr.key, key, mask, false)
    if (maskWords !== undefined) out.attributes(maskWords)
    else this.#writeMasked(flowAttr.mask, key, mask, true)
  }

  #writeMasked(type: number, key: FlowKey, mask: FlowKey, asMask: boolean): void {
    const { out } = this.#parts
    const start = out.nest(type)
    writeKey(out, this.#masked(key, mask), asMask)
    out.close(start)
  }

  #masked(key: FlowKey, mask: FlowKey): KernelMatch {
    maskKey(key, mask, this.#key)
    return { key: this.#key, mask }
  }

  /** Actions may take for granted what the flow matches of its packets, and no more. */
  #writeActions(key: FlowKey, { mask }: Shape, actions: readonly Action[], isSlow: boolean): void {
    const { portId, out } = this.#parts
    const known = this.#masked(key, mask).key
    const pid = portId(known[0] ?? 0)
    if (isSlow) writeSlowActions(out, actions, pid)
    else writeActions(out, actions, known, pid)
  }
}

/** An action takes 8 bytes at least, and not much more in the mean. */
function checkSize(actions: readonly Action[], isSent: boolean): void {
  if (actions.length * 8 > limits.actionsSize)
    throw new DatapathError('E2BIG', `${actions.length} actions are too many for one packet`)
  if (!isSent && actionDepth(actions) > actionDepthMax)
    throw new DatapathError('E2BIG', `actions stand ${actionDepthMax} deep in others at most`)
}

/** What a packet that the agent sends does not ask again. */
function asksAgent({ kind }: Action): boolean {
  return kind === 'userspace'
}
