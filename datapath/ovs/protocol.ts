/** Numbers of linux/openvswitch.h and linux/genetlink.h, as of Linux 6.12; older kernels know fewer. */

/** NETLINK_GENERIC */
export const genericProtocol = 16

/** nlmsghdr, genlmsghdr and ovs_header: where attributes start. */
export const messageHeader = 24

export const control = { family: 16, getFamily: 3, attrId: 1, attrName: 2 } as const

export const datapathCommand = { create: 1, remove: 2, get: 3, set: 4 } as const
export const datapathVersion = 2
export const datapathAttr = {
  name: 1,
  upcallPid: 2,
  stats: 3,
  userFeatures: 5,
  masksCacheSize: 7,
} as const
/** OVS_DP_F_UNALIGNED: upcalls may end without padding. */
export const featureUnaligned = 1

export const vportCommand = { create: 1, remove: 2, get: 3, set: 4 } as const
export const vportAttr = {
  number: 1,
  type: 2,
  name: 3,
  upcallPid: 5,
  ifindex: 8,
  upcallStats: 10,
} as const
/** OVS_VPORT_TYPE_… */
export const vportNetdev = 1
export const vportInternal = 2
/** DP_MAX_PORTS: vports have lower numbers. */
export const vportsMax = 0xffff

export const flowCommand = { create: 1, remove: 2, get: 3 } as const
export const flowAttr = {
  key: 1,
  actions: 2,
  stats: 3,
  used: 5,
  mask: 7,
  probe: 8,
  ufid: 9,
  ufidFlags: 10,
} as const
/** OVS_UFID_F_OMIT_KEY, _MASK and _ACTIONS */
export const ufidOnly = 7

export const packetCommand = { miss: 1, action: 2, execute: 3 } as const
export const packetAttr = { packet: 1, key: 2, actions: 3, userdata: 4 } as const

/** OVS_KEY_ATTR_… */
export const keyAttr = {
  encap: 1,
  priority: 2,
  inPort: 3,
  ethernet: 4,
  vlan: 5,
  etherType: 6,
  ipv4: 7,
  ipv6: 8,
  tcp: 9,
  udp: 10,
  icmp: 11,
  icmpv6: 12,
  arp: 13,
  nd: 14,
  mark: 15,
  tunnel: 16,
  sctp: 17,
  tcpFlags: 18,
  hash: 19,
  recirculation: 20,
  ctState: 22,
  ctZone: 23,
  ctMark: 24,
  ctLabels: 25,
  ctTuple4: 26,
  ctTuple6: 27,
  /** Which extension headers there are; from Linux 5.18 on. */
  extensions: 32,
} as const

/** OVS_TUNNEL_KEY_ATTR_… */
export const tunnelAttr = {
  id: 0,
  src: 1,
  dst: 2,
  tos: 3,
  ttl: 4,
  dontFragment: 5,
  checksum: 6,
  tpSrc: 9,
  tpDst: 10,
  ipv6Src: 12,
  ipv6Dst: 13,
  pad: 14,
} as const

/** OVS_ACTION_ATTR_… */
export const actionAttr = {
  output: 1,
  userspace: 2,
  set: 3,
  pushVlan: 4,
  popVlan: 5,
  setMasked: 11,
  recirculate: 7,
  ct: 12,
  meter: 19,
  clone: 20,
  checkLength: 21,
} as const
/** OVS_CT_ATTR_… */
export const ctAttr = { commit: 1, zone: 2, mark: 3 } as const
/** OVS_CHECK_PKT_LEN_ATTR_… */
export const checkLengthAttr = { length: 1, greater: 2, lessEqual: 3 } as const
export const userspaceAttr = { pid: 1, userdata: 2 } as const

/** OVS_FRAG_TYPE_LATER is the key's `fragLater`; a tag's presence is our bit too: VLAN_CFI_MASK. */
export const tagPresent = 0x1000
export const etherTypeServiceTag = 0x88a8

/** OVS_METER_CMD_…; there is none that lists them */
export const meterCommand = { features: 1, set: 2, remove: 3, get: 4 } as const
/** OVS_METER_ATTR_…; `kbps` is there or not, without a value. */
export const meterAttr = { id: 1, kbps: 2, stats: 3, bands: 4, metersMax: 7 } as const
/** OVS_BAND_ATTR_… */
export const bandAttr = { type: 1, rate: 2, burst: 3, stats: 4 } as const
/** OVS_METER_BAND_TYPE_DROP */
export const meterBandDrop = 1
