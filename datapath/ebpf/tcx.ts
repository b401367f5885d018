/**
 * Programs on an interface without a queueing discipline and filters between (tcx, Linux 6.6): a
 * packet saves the way through those. As a filter does, a program stays when the process ends, since
 * no link holds it; a link would need a mounted file system of BPF's to outlive us, and a managed
 * plugin has none. Offsets are those of union bpf_attr in linux/bpf.h.
 */
import type { Direction } from '../tc.ts'
import { beginCall, refusal } from './bpf.ts'

const command = { attach: 8, detach: 9, query: 16 } as const
const attachTypes = { ingress: 46, egress: 47 } as const // BPF_TCX_INGRESS, BPF_TCX_EGRESS
const replace = 4 // BPF_F_REPLACE
/** BPF_MPROG_MAX */
const programsMax = 64

/** The kernel's numbers of an interface's programs; undefined where it has no tcx, or no interface. */
export function listTcx(index: number, direction: Direction): readonly number[] | undefined {
  const attr = beginCall()
  attr.u32(0, index).u32(4, attachTypes[direction])
  attr.pointer(16, attr.address(attr.buffer)).u32(24, programsMax)
  if (attr.call(command.query, 64) < 0) return undefined
  return Array.from({ length: attr.view.getUint32(24, true) }, (_, at) =>
    attr.view.getUint32(attr.buffer + 4 * at, true),
  )
}

/** Adds a program, or puts it where `before` is, without a gap. @throws DatapathError */
export function attachTcx(
  index: number,
  direction: Direction,
  programFd: number,
  before?: number,
): void {
  const attr = beginCall().u32(0, index).u32(4, programFd).u32(8, attachTypes[direction])
  if (before !== undefined) attr.u32(12, replace).u32(16, before)
  const result = attr.call(command.attach, 32)
  if (result < 0) throw refusal(`program on interface ${index}`, result)
}

/** Takes a program away. None, or no interface, is no error. */
export function detachTcx(index: number, direction: Direction, programFd: number): void {
  const attr = beginCall().u32(0, index).u32(4, programFd).u32(8, attachTypes[direction])
  attr.call(command.detach, 32)
}
