/**
 * Where things stand in the maps that our programs and this process share. A change here needs a
 * new `format`, so that an agent does not adopt what it would misread.
 *
 *   table    one value: settings, counters, mask hints, masks              shared memory
 *   flows    hash: 20 words of masked key, mask id -> entry index
 *   entries  array: statistics and actions of flows                        shared memory
 *   ports    hash: vport number -> when its next upcall is due
 *   meters   hash: id -> when the bucket is empty, cost of a byte, depth
 *
 * A flow's actions fill the three slots of an entry, or more entries: then the last slot of each
 * says which comes next. To replace a flow's actions, new entries are written and one update of
 * `flows` switches over, so a packet meets the old list or the new one and never a mixture.
 */
import { keyWords } from '../../packet/flow-key.ts'

/** Says what the maps hold and how: "MN" and a version. */
export const format = 0x4d4e_0002

export const masksMax = 64
export const flowsMax = 65_536
/** Entries that carry out `execute`, before those of flows. */
export const executeEntries = 8
/** Half as many again as flows: for long action lists, and for entries that wait to be used again. */
export const entriesMax = executeEntries + flowsMax + flowsMax / 2
export const portsMax = 4096
/** Entries that one flow may fill. */
export const chainMax = 8

/** Bytes from the start of the table's value. */
export const table = {
  format: 0,
  /** Masks with an id below this may be in use. */
  maskCount: 4,
  /** Interface that takes upcalls. */
  upcallPort: 8,
  misses: 64,
  upcalls: 72,
  lost: 80,
  failures: 88,
  hints: 128,
  hintBits: 10,
  masks: 1152,
  maskSize: 88,
  /** In a mask: 1 when in use; the words come 8 bytes on. */
  maskWords: 8,
  size: 1152 + masksMax * 88,
} as const

/** Bytes of a key in `flows`; the mask's id stands behind the words. */
export const flowKeySize = 4 * keyWords + 4

/** Bytes from the start of an entry. */
export const entry = {
  packets: 0,
  bytes: 8,
  /** Nanoseconds of the monotonic clock. */
  usedAt: 16,
  slots: 32,
  slotSize: 32,
  slotCount: 3,
  size: 128,
} as const

/** Slots: the kind in the first byte, a count in the second, a payload from byte 4. */
export const slot = {
  end: 0,
  /** `count` interfaces, each gets a copy. */
  outputs: 1,
  /** One interface, gets the packet itself; nothing comes after. */
  last: 2,
  /**
   * As `last`, but straight into the network namespace of the interface's peer when the packet is
   * for the peer's MAC address, which stands behind the interface.
   */
  lastPeer: 3,
  setEth: 4,
  setTtl: 5,
  setTos: 6,
  setIpSrc: 7,
  setIpDst: 8,
  setTpSrc: 9,
  setTpDst: 10,
  setArp: 11,
  pushVlan: 12,
  popVlan: 13,
  setTunnel: 14,
  userspace: 15,
  /** Index of the entry to go on with. */
  next: 16,
  meter: 17,
  /** A length; what is longer goes to the agent when the second byte is 1, else nowhere. */
  checkLength: 18,
  setIpv6Src: 19,
  setIpv6Dst: 20,
  /** The source of the tunnel header that the slot behind, `setTunnel6`, completes. */
  tunnelSrc6: 21,
  setTunnel6: 22,
} as const

export const slotPayload = 4
/** Interfaces in one slot of outputs. */
export const outputsMax = 7

/** What stands before a frame on its way to the agent; the first 12 bytes stay together (see upcall.ts). */
export const upcallHeader = {
  magic: 0,
  inPort: 4,
  /** Byte 8: 0 for a miss, 1 for an action. */
  reason: 8,
  /** Byte 9: 1 when the kernel puts an 802.1Q or 802.1ad tag in at byte 12. */
  tagged: 9,
  /** Of a packet out of a tunnel, as in the key. */
  tunnelId: 16,
  tunnelSrc: 20,
  size: 32,
} as const

export const upcallMagic = 0x4d4e_5550
/** Mark of the packets that `execute` sends. */
export const executeMark = 0x4d4e_4558

/** A port may make so many upcalls in a second, */
export const upcallsPerSecond = 20_000
/** and so many at once. */
export const upcallBurst = 2000

/** Bytes from the start of a meter's value: nanoseconds, but for the cost of a byte. */
export const meter = { emptyAt: 0, byteCost: 8, depth: 16, size: 24 } as const
/** Costs of bytes are in nanoseconds shifted by so many bits. */
export const meterShift = 16

export type MapName = 'table' | 'flows' | 'entries' | 'ports' | 'meters'
