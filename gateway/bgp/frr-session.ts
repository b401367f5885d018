/** What FRR says of its sessions: `show bgp … summary json` and `show bfd peers json`. Pure. */
import type { Session } from './daemon.ts'

type Json = Readonly<Record<string, unknown>>

/** Sessions by peer; what is not as expected is left out. */
export function readSessions(summary: string, bfd: string): readonly Session[] {
  const watched = new Map(
    list(parse(bfd)).map((one) => [String(one.peer), String(one.status ?? 'unknown')]),
  )
  const told = object(parse(summary))
  // With the family named it is the answer itself, without it is a part.
  const peers = object(told.peers ?? object(told.ipv4Unicast).peers)
  return Object.entries(peers).map(([peer, value]) => {
    const one = object(value)
    return {
      peer,
      asn: number(one.remoteAs),
      state: String(one.state ?? 'Unknown'),
      forMs: number(one.peerUptimeMsec),
      received: number(one.pfxRcd),
      advertised: number(one.pfxSnt),
      bfd: watched.get(peer),
    }
  })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function list(value: unknown): readonly Json[] {
  return Array.isArray(value) ? value.map(object) : []
}

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0
}
