/**
 * Carries out a flow's actions on the packet, as packet/apply.ts says. Helpers of the kernel do the
 * changes, since they keep the packet's checksum state: a checksum that the sender left to be
 * completed stays so. A change that a helper refuses drops the packet and is counted; half a rewrite
 * must not leave.
 */
import { type Assembler, r0, r1, r2, r3, r4, r5, r7 } from './assembler.ts'
import { context, count, helper, packetHost, shot, stack, wireVlan } from './kernel.ts'
import { chainMax, entry, outputsMax, slot, slotPayload, table } from './layout.ts'
import { callLocate, emitLocate } from './locate.ts'
import { emitMeter } from './meter.ts'
import { emitUpcalls } from './upcall.ts'

const { place, scratch } = stack
// linux/bpf.h: BPF_F_RECOMPUTE_CSUM, BPF_F_PSEUDO_HDR, BPF_F_MARK_MANGLED_0
const recomputeChecksum = 0x1
const pseudoHeader = 0x10
const zeroIsNone = 0x20
// BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX: inner checksums are enough, but for IPv6's own header.
const tunnelIpv6 = 0x1
const zeroChecksum = 0x2

export interface ActionOptions {
  /** Whether a packet can come here that no flow matches. */
  readonly withMiss: boolean
  /** Whether the key says of a tunnel, which the agent is told then. */
  readonly isTunnel: boolean
}

/** From the slot at r7 on; ends the program. Defines `drop`, `failed` and, where asked, `miss` too. */
export function emitActions(a: Assembler, { withMiss, isTunnel }: ActionOptions): void {
  a.mov(8, 0).mov(9, 0)
  // Read only where `tunnelSrc6` has written them; older verifiers do not see that.
  for (let at = 24; at < 48; at += 8) a.store(64, 10, stack.block + at, 0)
  a.label('loop').load(8, 1, 7, 0)
  for (const [label, kind] of Object.entries(slot))
    if (label !== 'end') a.when(1, 'eq', kind, label)
  a.jump('drop')

  a.label('advance')
  forgetValues(a)
  a.op('add', 8, 1).when(8, 'ge', entry.slotCount, 'drop')
  a.op('add', 7, entry.slotSize).jump('loop')
  emitNext(a)
  emitOutputs(a)
  emitEthernet(a)
  emitIpBytes(a)
  emitIpv6Bytes(a)
  emitAddresses(a)
  emitAddresses6(a)
  emitPorts(a)
  emitTunnel(a)
  emitTunnel6(a)
  emitMeter(a)
  emitCheckLength(a)

  a.label('failed')
  count(a, table.failures)
  a.label('drop').mov(0, shot).exit()
  emitUpcalls(a, withMiss, isTunnel)
  emitLocate(a)
}

/**
 * What actions leave on the stack nobody reads; but the verifier would take it for a difference, and
 * think the actions that follow through for each that may have come before.
 */
function forgetValues(a: Assembler): void {
  a.load(32, 1, 6, context.len).store(64, 10, scratch, r1)
  for (let at = 0; at < 24; at += 8) a.store(64, 10, stack.block + at, r1)
}

/** Goes on in another entry. */
function emitNext(a: Assembler): void {
  a.label('next').op('add', 9, 1).when(9, 'ge', chainMax, 'drop')
  a.load(32, 1, 7, slotPayload).store(32, 10, scratch, r1)
  a.map(1, 'entries').mov(2, { r: 10 }).op('add', 2, scratch).helper(helper.mapLookup)
  a.when(0, 'eq', 0, 'drop').mov(7, r0).op('add', 7, entry.slots).mov(8, 0).jump('loop')
}

function emitOutputs(a: Assembler): void {
  a.label('last').load(32, 1, 7, slotPayload).mov(2, 0).helper(helper.redirect).exit()

  // On the direct way nobody asks again whether the packet is for the peer: the kernel takes the
  // type that it gave the packet at the port, or from 6.13 on takes it to be for the peer always.
  a.label('lastPeer').mov(1, { r: 6 }).mov(2, 0).mov(3, { r: 10 }).op('add', 3, scratch).mov(4, 6)
  a.helper(helper.loadBytes).when(0, 'ne', 0, 'last')
  a.load(32, 1, 10, scratch)
    .load(32, 2, 7, slotPayload + 4)
    .when(1, 'ne', r2, 'last')
  a.load(16, 1, 10, scratch + 4)
    .load(16, 2, 7, slotPayload + 8)
    .when(1, 'ne', r2, 'last')
  a.mov(1, { r: 6 }).mov(2, packetHost).helper(helper.changeType).when(0, 'ne', 0, 'last')
  a.load(32, 1, 7, slotPayload).mov(2, 0).helper(helper.redirectPeer).exit()

  // A copy that cannot be sent must not keep the others from being.
  a.label('outputs')
  for (let index = 0; index < outputsMax; index++) {
    const sent = a.unique('sent')
    a.load(8, 1, 7, 1).when(1, 'le', index, 'advance')
    a.mov(1, { r: 6 })
      .load(32, 2, 7, slotPayload + 4 * index)
      .mov(3, 0)
    a.helper(helper.cloneRedirect).when(0, 'eq', 0, sent)
    count(a, table.failures)
    a.label(sent)
  }
  a.jump('advance')
}

function emitEthernet(a: Assembler): void {
  a.label('setEth').mov(2, 0)
  storeFromSlot(a, 12, 0)

  a.label('pushVlan').mov(1, { r: 6 }).mov(2, wireVlan).load(32, 3, 7, slotPayload)
  a.helper(helper.vlanPush).when(0, 'ne', 0, 'failed').jump('moved')

  a.label('popVlan').load(32, 1, 6, context.vlanPresent).when(1, 'eq', 0, 'popInline')
  a.load(32, 1, 6, context.vlanProto).when(1, 'ne', wireVlan, 'advance').jump('pop')
  a.label('popInline').load(32, 1, 6, context.len).when(1, 'lt', 18, 'advance').mov(2, 12)
  loadToScratch(a, 2)
  a.when(1, 'ne', wireVlan, 'advance')
  a.label('pop').mov(1, { r: 6 }).helper(helper.vlanPop).when(0, 'ne', 0, 'failed')
  a.label('moved')
  callLocate(a)
  a.jump('advance')

  a.label('setArp')
  require(a, 0x0806)
  a.load(32, 2, 10, place.l3).op('add', 2, 6)
  storeFromSlot(a, 22, recomputeChecksum)
}

/** Time to live and type of service; the header's checksum follows. */
function emitIpBytes(a: Assembler): void {
  a.label('setTtl')
  require(a, 0x0800, 'setHopLimit')
  // The word of TTL and protocol stands right before the checksum: one load, one store.
  a.load(32, 2, 10, place.l3).op('add', 2, 8)
  loadToScratch(a, 4)
  a.load(16, 1, 10, scratch).load(8, 2, 7, slotPayload).store(8, 10, scratch, r2)
  a.load(16, 2, 10, scratch).load(16, 3, 10, scratch + 2)
  // RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). The order of bytes does not matter to it.
  a.op('xor', 1, 0xffff).op('xor', 3, 0xffff).op('add', 3, r1).op('add', 3, r2)
  for (let fold = 0; fold < 2; fold++)
    a.mov(1, r3).op('shr', 1, 16).op('and', 3, 0xffff).op('add', 3, r1)
  a.op('xor', 3, 0xffff).store(16, 10, scratch + 2, r3)
  a.load(32, 2, 10, place.l3).op('add', 2, 8).mov(3, { r: 10 }).op('add', 3, scratch).mov(4, 4)
  storeBytes(a, 0)
  a.jump('advance')

  a.label('setTos')
  require(a, 0x0800, 'setTrafficClass')
  a.load(32, 2, 10, place.l3)
  loadToScratch(a, 2)
  a.mov(3, r1)
    .load(8, 1, 7, slotPayload)
    .store(8, 10, scratch + 1, r1)
  a.load(16, 4, 10, scratch).mov(5, 2)
  replaceIpChecksum(a)
  a.load(32, 2, 10, place.l3).op('add', 2, 1)
  storeFromSlot(a, 1, 0)
}

/** Hop limit and traffic class, which no checksum but the network card's covers. */
function emitIpv6Bytes(a: Assembler): void {
  a.label('setHopLimit')
  require(a, 0x86dd)
  a.load(32, 2, 10, place.l3).op('add', 2, 7)
  storeFromSlot(a, 1, recomputeChecksum)

  a.label('setTrafficClass')
  require(a, 0x86dd)
  a.load(32, 2, 10, place.l3)
  loadToScratch(a, 2)
  a.load(8, 3, 7, slotPayload).mov(4, r3).op('shr', 4, 4).op('shl', 3, 4).op('and', 3, 0xf0)
  a.load(8, 1, 10, scratch).op('and', 1, 0xf0).op('or', 1, r4).store(8, 10, scratch, r1)
  a.load(8, 1, 10, scratch + 1)
    .op('and', 1, 0x0f)
    .op('or', 1, r3)
    .store(8, 10, scratch + 1, r1)
  a.load(32, 2, 10, place.l3).mov(3, { r: 10 }).op('add', 3, scratch).mov(4, 2)
  storeBytes(a, recomputeChecksum)
  a.jump('advance')
}

/**
 * Addresses of IPv6; the checksum of TCP, UDP or ICMPv6 follows. Where the network card has summed
 * the packet, the helper for the checksum takes the change off that sum, as it would have to for
 * IPv4; the store puts it back.
 */
function emitAddresses6(a: Assembler): void {
  for (const [label, offset] of [
    ['setIpv6Src', 8],
    ['setIpv6Dst', 24],
  ] as const) {
    const header = a.unique('header')
    a.label(label)
    require(a, 0x86dd)
    findChecksum(a, header, true)
    a.store(32, 10, scratch, r2).store(32, 10, scratch + 4, r5)
    a.load(32, 2, 10, place.l3).op('add', 2, offset).mov(1, { r: 6 })
    a.mov(3, { r: 10 }).op('add', 3, stack.block).mov(4, 16)
    a.helper(helper.loadBytes).when(0, 'ne', 0, 'failed')
    a.mov(1, { r: 10 }).op('add', 1, stack.block).mov(2, 16)
    a.mov(3, r7).op('add', 3, slotPayload).mov(4, 16).mov(5, 0).helper(helper.csumDiff)
    a.mov(4, r0)
      .load(32, 2, 10, scratch)
      .load(32, 5, 10, scratch + 4)
    a.op('or', 5, pseudoHeader).mov(3, 0).mov(1, { r: 6 })
    a.helper(helper.l4CsumReplace).when(0, 'ne', 0, 'failed')
    a.label(header).load(32, 2, 10, place.l3).op('add', 2, offset)
    storeFromSlot(a, 16, recomputeChecksum)
  }
}

/** Addresses; the checksums of IPv4 and of TCP or UDP follow. */
function emitAddresses(a: Assembler): void {
  for (const [label, offset] of [
    ['setIpSrc', 12],
    ['setIpDst', 16],
  ] as const) {
    const header = a.unique('header')
    a.label(label)
    require(a, 0x0800)
    a.load(32, 2, 10, place.l3).op('add', 2, offset)
    loadToScratch(a, 4)
    findChecksum(a, header)
    a.op('or', 5, pseudoHeader | 4)
      .load(32, 3, 10, scratch)
      .load(32, 4, 7, slotPayload)
    a.mov(1, { r: 6 }).helper(helper.l4CsumReplace).when(0, 'ne', 0, 'failed')
    a.label(header).load(32, 3, 10, scratch).load(32, 4, 7, slotPayload).mov(5, 4)
    replaceIpChecksum(a)
    a.load(32, 2, 10, place.l3).op('add', 2, offset)
    storeFromSlot(a, 4, 0)
  }
}

/** Ports of TCP and UDP. */
function emitPorts(a: Assembler): void {
  for (const [label, offset] of [
    ['setTpSrc', 0],
    ['setTpDst', 2],
  ] as const) {
    const known = a.unique('known')
    a.label(label).load(32, 1, 10, place.kind).when(1, 'eq', 0x0800, known)
    a.when(1, 'ne', 0x86dd, 'advance').label(known)
    a.load(32, 2, 10, place.l4).when(2, 'eq', 0, 'advance').op('add', 2, offset)
    // An l4 too near the end has no port to load: then there is nothing to set.
    a.mov(1, { r: 6 }).mov(3, { r: 10 }).op('add', 3, scratch).mov(4, 2)
    a.helper(helper.loadBytes).when(0, 'ne', 0, 'advance')
    findChecksum(a, 'advance')
    a.op('or', 5, 2).load(16, 3, 10, scratch).load(16, 4, 7, slotPayload)
    a.mov(1, { r: 6 }).helper(helper.l4CsumReplace).when(0, 'ne', 0, 'failed')
    a.load(32, 2, 10, place.l4).op('add', 2, offset)
    storeFromSlot(a, 2, 0)
  }
}

function emitTunnel(a: Assembler): void {
  // struct bpf_tunnel_key, linux/bpf.h: id, remote_ipv4 at 4, ttl at 21, local_ipv4 at 28 of 44.
  a.label('setTunnel')
  for (let at = 0; at < 48; at += 8) a.store(64, 10, stack.block + at, 0)
  a.load(32, 1, 7, slotPayload).store(32, 10, stack.block, r1)
  a.load(32, 1, 7, slotPayload + 4).store(32, 10, stack.block + 4, r1)
  a.load(32, 1, 7, slotPayload + 8).store(32, 10, stack.block + 28, r1)
  a.store(8, 10, stack.block + 21, 64)
  // Kernels before 6.0 know no local address: they take the shorter form.
  for (const size of [44, 28]) {
    a.mov(1, { r: 6 }).mov(2, { r: 10 }).op('add', 2, stack.block).mov(3, size)
    a.mov(4, zeroChecksum).helper(helper.setTunnelKey).when(0, 'eq', 0, 'advance')
  }
  a.jump('failed')
}

/** The same over IPv6, in two slots: remote_ipv6 at 4 and local_ipv6 at 28, both as on the wire. */
function emitTunnel6(a: Assembler): void {
  a.label('tunnelSrc6')
  for (let at = 0; at < 16; at += 4)
    a.load(32, 1, 7, slotPayload + at).store(32, 10, stack.block + 28 + at, r1)
  a.jump('advance')

  a.label('setTunnel6').store(64, 10, stack.block + 16, 0)
  a.store(32, 10, stack.block + 24, 0)
  for (let at = 0; at < 20; at += 4)
    a.load(32, 1, 7, slotPayload + at).store(32, 10, stack.block + at, r1)
  a.store(8, 10, stack.block + 21, 64)
  for (const size of [44, 28]) {
    a.mov(1, { r: 6 }).mov(2, { r: 10 }).op('add', 2, stack.block).mov(3, size)
    a.mov(4, tunnelIpv6).helper(helper.setTunnelKey).when(0, 'eq', 0, 'advance')
  }
  a.jump('failed')
}

/**
 * The length of the frame, or of one segment with its headers where the packet is still to be cut,
 * against the slot's. No action before it has changed where the headers stand.
 */
function emitCheckLength(a: Assembler): void {
  a.label('checkLength').load(32, 1, 6, context.gsoSize).when(1, 'eq', 0, 'lengthWhole')
  a.load(32, 2, 10, place.l4).when(2, 'ne', 0, 'lengthAbove')
  // IPv6 with nothing known above it.
  a.load(32, 2, 10, place.l3).op('add', 2, 40)
  a.label('lengthAbove').store(64, 10, stack.block, r2)
  a.load(32, 1, 10, place.proto).when(1, 'eq', 17, 'lengthUdp').op('add', 2, 12)
  a.mov(1, { r: 6 }).mov(3, { r: 10 }).op('add', 3, scratch).mov(4, 1)
  a.helper(helper.loadBytes).when(0, 'ne', 0, 'lengthWhole')
  a.load(8, 2, 10, scratch).op('shr', 2, 4).op('shl', 2, 2).jump('lengthSegment')
  a.label('lengthUdp').mov(2, 8)
  a.label('lengthSegment').load(64, 1, 10, stack.block).op('add', 2, r1)
  a.load(32, 1, 6, context.gsoSize).op('add', 2, r1).jump('lengthUntagged')
  a.label('lengthWhole').load(32, 2, 6, context.len)
  // A tag that stands in the frame does not count.
  a.label('lengthUntagged').load(32, 1, 10, place.l3).when(1, 'ne', 18, 'lengthCompare')
  a.op('sub', 2, 4)
  a.label('lengthCompare').load(32, 1, 7, slotPayload).when(2, 'le', r1, 'advance')
  a.load(8, 1, 7, 1).when(1, 'ne', 0, 'userspace').jump('drop')
}

/** Goes on when the packet has the header (0x0800, 0x0806, 0x86dd), otherwise to a label. */
function require(a: Assembler, kind: number, otherwise = 'advance'): void {
  a.load(32, 1, 10, place.kind).when(1, 'ne', kind, otherwise)
}

/**
 * r2 = offset of the L4 checksum, r5 = flags; to `otherwise` when the packet has none. Uses r1 and
 * r4. ICMPv6's counts where `withIcmp` says so.
 */
function findChecksum(a: Assembler, otherwise: string, withIcmp = false): void {
  const [udp, found, icmp] = [a.unique('udp'), a.unique('found'), a.unique('icmp')]
  a.load(32, 2, 10, place.l4).when(2, 'eq', 0, otherwise).load(32, 4, 6, context.len)
  a.load(32, 1, 10, place.proto).when(1, 'eq', 17, udp)
  if (withIcmp) a.when(1, 'eq', 58, icmp)
  a.when(1, 'ne', 6, otherwise)
  a.mov(1, r2).op('add', 1, 18).when(1, 'gt', r4, otherwise)
  a.op('add', 2, 16).mov(5, 0).jump(found)
  if (withIcmp) {
    a.label(icmp).mov(1, r2).op('add', 1, 4).when(1, 'gt', r4, otherwise)
    a.op('add', 2, 2).mov(5, 0).jump(found)
  }
  a.label(udp).mov(1, r2).op('add', 1, 8).when(1, 'gt', r4, otherwise)
  a.op('add', 2, 6).mov(5, zeroIsNone)
  a.label(found)
}

/** Loads up to 8 bytes at offset r2 to the scratch and to r1. */
function loadToScratch(a: Assembler, size: 2 | 4): void {
  a.mov(1, { r: 6 }).mov(3, { r: 10 }).op('add', 3, scratch).mov(4, size)
  a.helper(helper.loadBytes).when(0, 'ne', 0, 'failed')
  a.load(size === 2 ? 16 : 32, 1, 10, scratch)
}

/** Updates the IPv4 checksum for r3 becoming r4, r5 bytes. */
function replaceIpChecksum(a: Assembler): void {
  a.load(32, 2, 10, place.l3).op('add', 2, 10).mov(1, { r: 6 })
  a.helper(helper.l3CsumReplace).when(0, 'ne', 0, 'failed')
}

/** Stores the slot's payload at offset r2 and goes to the next action. */
function storeFromSlot(a: Assembler, size: number, flags: number): void {
  a.mov(3, { r: 7 }).op('add', 3, slotPayload).mov(4, size)
  storeBytes(a, flags)
  a.jump('advance')
}

/** Stores r4 bytes from r3 at offset r2. */
function storeBytes(a: Assembler, flags: number): void {
  a.mov(1, { r: 6 }).mov(5, flags).helper(helper.storeBytes).when(0, 'ne', 0, 'failed')
}
