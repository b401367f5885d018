/** From what a packet has become to the actions that make it so. */
import type { Action } from '../packet/action.ts'
import { readBits } from '../packet/field-bits.ts'
import { type FlowKey, fields, keyWords } from '../packet/flow-key.ts'

const ethertypeArp = 0x0806
const ethertypeIpv4 = 0x0800
const ethertypeIpv6 = 0x86dd
const ttlActions: readonly Action[] = Array.from({ length: 256 }, (_, ttl) =>
  Object.freeze({ kind: 'setTtl', ttl }),
)
const popVlan: Action = Object.freeze({ kind: 'popVlan' })

const setIpSrc = latestOf((address): Action => ({ kind: 'setIpSrc', address }))
const setIpDst = latestOf((address): Action => ({ kind: 'setIpDst', address }))
const setTpSrc = latestOf((port): Action => ({ kind: 'setTpSrc', port }))
const setTpDst = latestOf((port): Action => ({ kind: 'setTpDst', port }))

/**
 * Makes actions of a number each, and one that was made lately not again: flows toward one server
 * or from one gateway do the same.
 */
function latestOf(make: (value: number) => Action): (value: number) => Action {
  const count = 256
  const values = new Uint32Array(count)
  const actions = new Array<Action | undefined>(count).fill(undefined)
  return (value) => {
    const at = value & (count - 1)
    const known = actions[at]
    if (known !== undefined && values[at] === value) return known
    const action = make(value)
    values[at] = value
    actions[at] = action
    return action
  }
}

/** The actions that turn header `from` into header `to`. */
export function pushDifferences(
  from: FlowKey,
  to: FlowKey,
  ethAction: Action | undefined,
  push: (action: Action) => void,
): void {
  if (from[7] !== to[7]) {
    if (from[7] !== 0) push(popVlan)
    if (to[7] !== 0) push({ kind: 'pushVlan', tci: word(to, 7) & 0xefff })
  }
  if (from[3] !== to[3] || from[4] !== to[4] || from[5] !== to[5] || from[6] !== to[6])
    push(ethAction ?? { kind: 'setEth', dst: macAt(to, 3), src: macAt(to, 5) })
  if (to[8] === ethertypeArp) {
    if (differs(from, to, 10))
      push({
        kind: 'setArp',
        op: word(to, 19) >>> 16,
        sha: macAt(to, 11),
        spa: word(to, 10),
        tha: macAt(to, 15),
        tpa: word(to, 14),
      })
    return
  }
  if (to[8] === ethertypeIpv4) pushTranslation(from, to, push)
  else if (to[8] === ethertypeIpv6) pushTranslation6(from, to, push)
  const tos = (word(to, 9) >>> 8) & 0xff
  if (((word(from, 9) >>> 8) & 0xff) !== tos) push({ kind: 'setTos', tos })
  const ttl = (word(to, 9) >>> 16) & 0xff
  if (((word(from, 9) >>> 16) & 0xff) !== ttl) push(ttlActions[ttl] ?? { kind: 'setTtl', ttl })
}

function pushTranslation(from: FlowKey, to: FlowKey, push: (action: Action) => void): void {
  if (from[10] !== to[10]) push(setIpSrc(word(to, 10)))
  if (from[14] !== to[14]) push(setIpDst(word(to, 14)))
  pushPorts(from, to, push)
}

function pushTranslation6(from: FlowKey, to: FlowKey, push: (action: Action) => void): void {
  if (differsIn(from, to, 10)) push({ kind: 'setIpv6Src', address: readBits(to, fields.ipv6Src) })
  if (differsIn(from, to, 14)) push({ kind: 'setIpv6Dst', address: readBits(to, fields.ipv6Dst) })
  pushPorts(from, to, push)
}

function pushPorts(from: FlowKey, to: FlowKey, push: (action: Action) => void): void {
  const differences = word(from, 18) ^ word(to, 18)
  if ((differences & 0xffff) !== 0) push(setTpSrc(word(to, 18) & 0xffff))
  if (differences >>> 16 !== 0) push(setTpDst(word(to, 18) >>> 16))
}

/** Whether one of four words differs. */
function differsIn(a: FlowKey, b: FlowKey, at: number): boolean {
  for (let next = at; next < at + 4; next++) if (a[next] !== b[next]) return true
  return false
}

/** Whether any word from `at` on differs. */
function differs(a: FlowKey, b: FlowKey, at: number): boolean {
  for (let next = at; next < keyWords; next++) if (a[next] !== b[next]) return true
  return false
}

function macAt(key: FlowKey, at: number): number {
  return word(key, at) * 0x1_0000_0000 + word(key, at + 1)
}

function word(key: FlowKey, at: number): number {
  return key[at] ?? 0
}
