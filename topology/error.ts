/** An object does not fit its schema. `field` is the path within it, such as `addresses.0`. */
export class InvalidObjectError extends Error {
  override readonly name = 'InvalidObjectError'
  readonly code = 'INVALID_OBJECT'
  readonly field: string

  constructor(kind: string, field: string, problem: string, options?: ErrorOptions) {
    super(`${kind}: ${field}: ${problem}`, options)
    this.field = field
  }
}

/** A transaction would break a rule of the topology; the message says what to do. */
export class TopologyError extends Error {
  override readonly name = 'TopologyError'
  readonly code: 'MISSING_REFERENCE' | 'IN_USE' | 'CONFLICT' | 'INVALID'

  constructor(code: TopologyError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The store cannot be opened, read or written. `code` is such as `LOCKED` or `CORRUPT`. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
