/**
 * What a packet out of a tunnel brings along: `tunnelId` and `tunnelSrc` of its key. Only the
 * program of tunnel vports asks for it, so that others do not pay.
 */
import { mixFactor } from '../../packet/tunnel-source.ts'
import { type Assembler, r1, r2 } from './assembler.ts'
import { helper, stack } from './kernel.ts'

// linux/bpf.h: BPF_F_TUNINFO_IPV6; struct bpf_tunnel_key up to tunnel_label, which all kernels have.
const overIpv6 = 0x1
const keySize = 28
const remoteAt = 4

/** Behind the label `extracted`; a packet without a tunnel header keeps 0 in both words. */
export function emitTunnelKey(a: Assembler): void {
  const [id, src] = [stack.key + 4, stack.key + 8]
  getKey(a, 0)
  a.when(0, 'ne', 0, 'tunnel6')
  a.load(32, 1, 10, stack.block).store(32, 10, id, r1)
  a.load(32, 1, 10, stack.block + remoteAt)
    .store(32, 10, src, r1)
    .jump('tunnelRead')

  a.label('tunnel6')
  getKey(a, overIpv6)
  a.when(0, 'ne', 0, 'tunnelRead')
  a.load(32, 1, 10, stack.block).store(32, 10, id, r1)
  a.mov(1, 0)
  for (let at = 0; at < 16; at += 4) {
    a.op32('mul', 1, mixFactor | 0)
    a.load(32, 2, 10, stack.block + remoteAt + at).swap(2, 32)
    a.op32('xor', 1, r2)
  }
  a.store(32, 10, src, r1)
  a.label('tunnelRead')
}

function getKey(a: Assembler, flags: number): void {
  a.mov(1, { r: 6 }).mov(2, { r: 10 }).op('add', 2, stack.block).mov(3, keySize).mov(4, flags)
  a.helper(helper.getTunnelKey)
}
