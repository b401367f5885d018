/** Something that was found wrong and put right, or that the user must put right. */
export interface Repair {
  /** ISO 8601. */
  readonly time: string
  readonly what: string
}

/** Compares Docker, the store and the kernel's links all the time, and repairs. */
export interface Reconciler {
  /** Oldest first; bounded. */
  readonly repairs: readonly Repair[]
  /** Compares once; resolves when the repairs are done. */
  pass(): Promise<void>
  start(): void
  stop(): void
}
