/** The question of a health check: a SYN from a router to a server. */
import { buildFrame } from './build.ts'
import { encode } from './bytes.ts'
import { etherTypeIpv4, protoTcp } from './extract.ts'
import { ipv4 } from './ipv4.ts'
import { tcp, tcpSyn } from './tcp.ts'

export interface Syn {
  readonly srcMac: number
  readonly dstMac: number
  readonly src: number
  readonly srcPort: number
  readonly dst: number
  readonly dstPort: number
  readonly sequence: number
}

export function buildSyn({ srcMac, dstMac, src, dst, ...ports }: Syn): Uint8Array {
  const segment = {
    ...ports,
    acknowledgment: 0,
    flags: tcpSyn,
    window: 1024,
    urgent: 0,
    options: nothing,
    payload: nothing,
  }
  const packet = {
    tos: 0,
    id: 0,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    ttl: 64,
    proto: protoTcp,
    options: nothing,
    src,
    dst,
    payload: encode(tcp({ src, dst }), segment),
  }
  const link = { src: srcMac, dst: dstMac, vlan: undefined, etherType: etherTypeIpv4 }
  return buildFrame(link, ipv4, packet)
}

const nothing = new Uint8Array(0)
