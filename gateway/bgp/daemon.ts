/** The one interface to whatever speaks BGP for a router on this host. */

export interface PeerConfig {
  readonly address: string
  readonly asn: number
  readonly holdTime: number
  readonly keepAlive: number
  readonly connectRetry: number
  readonly password: string | undefined
  readonly bfd: boolean
}

export interface SpeakerConfig {
  readonly asn: number
  readonly routerId: string
  readonly peers: readonly PeerConfig[]
  /** What is told to every peer; nothing learned from one is told to another. */
  readonly networks: readonly string[]
  /** Routes of one peer beyond which its session is ended. */
  readonly prefixesMax: number
}

export interface Session {
  readonly peer: string
  readonly asn: number
  /** Of RFC 4271 section 8.2.2, such as `Established`. */
  readonly state: string
  /** How long it has stood, or has been down. */
  readonly forMs: number
  readonly received: number
  readonly advertised: number
  /** Whether BFD hears the peer; undefined without BFD. */
  readonly bfd: string | undefined
}

/** A routing daemon in a network namespace. It outlives the agent. */
export interface RoutingDaemon {
  /** The number of a process of it that runs; undefined when none does. */
  readonly process: number | undefined
  /** Runs as configured when this resolves; sessions come later. @throws RoutingDaemonError */
  apply(config: SpeakerConfig): Promise<void>
  /** Starts again what has died; says what it did. @throws RoutingDaemonError */
  supervise(): Promise<readonly string[]>
  /** @throws RoutingDaemonError */
  sessions(): Promise<readonly Session[]>
  /** Ends the daemon and removes what it kept. */
  stop(): Promise<void>
}

/** The daemon is not there, or refused; the message says what to do. */
export class RoutingDaemonError extends Error {
  override readonly name = 'RoutingDaemonError'
  readonly code: 'NOT_INSTALLED' | 'NOT_STARTED' | 'NO_ANSWER' | 'REFUSED'

  constructor(code: RoutingDaemonError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
