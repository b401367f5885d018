/** What the programs know of the kernel, and the layout of their stack. */
import { type Assembler, r2 } from './assembler.ts'

/** Bytes from the start of struct __sk_buff, linux/bpf.h. */
export const context = {
  len: 0,
  mark: 8,
  vlanPresent: 20,
  vlanTci: 24,
  vlanProto: 28,
  ifindex: 40,
  data: 76,
  dataEnd: 80,
  /** What each segment carries of a packet still to be cut; 0 for others. */
  gsoSize: 176,
} as const

/** Numbers of enum bpf_func_id, linux/bpf.h. */
export const helper = {
  mapLookup: 1,
  ktime: 5,
  storeBytes: 9,
  l3CsumReplace: 10,
  l4CsumReplace: 11,
  cloneRedirect: 13,
  vlanPush: 18,
  vlanPop: 19,
  getTunnelKey: 20,
  setTunnelKey: 21,
  redirect: 23,
  loadBytes: 26,
  csumDiff: 28,
  changeType: 32,
  pullData: 39,
  changeHead: 43,
  redirectPeer: 155,
  ktimeCoarse: 160,
} as const

/** Results of a tc program, linux/pkt_cls.h: TC_ACT_SHOT drops. */
export const shot = 2

/** PACKET_HOST, linux/if_packet.h */
export const packetHost = 0

/** EtherTypes as they look when loaded from the wire without a swap. */
export const wireVlan = 0x0081
export const wireArp = 0x0608
export const wireIpv4 = 0x0008
export const wireIpv6 = 0xdd86

/** Bytes below r10. */
export const stack = {
  /** 20 words. */
  key: -80,
  /** 20 words and the mask's id, as `flows` wants them. */
  maskedKey: -168,
  scratch: -176,
  /**
   * Where the headers of the packet stand now. None is at a multiple of 8: there the verifier would
   * follow each constant, and check all actions for each.
   */
  place: { at: -208, kind: -204, l3: -196, l4: -188, proto: -180 },
  /** 1 once the frame's start was made contiguous. */
  pulled: -216,
  /** struct bpf_tunnel_key, and 32 bytes before a frame for the agent. */
  block: -264,
} as const

/** Values of `place.kind` beside the EtherTypes 0x0800, 0x0806 and 0x86dd. */
export const placeNone = 1

/** Adds 1 to a counter in the table. Uses r1 and r2. */
export function count(a: Assembler, counter: number): void {
  a.mapValue(1, 'table', counter).mov(2, 1).atomicAdd(1, 0, r2.r)
}
