/** A call is refused; the message goes to Docker's user and says what to change. */
export class DriverError extends Error {
  override readonly name = 'DriverError'
  readonly code:
    | 'INVALID_REQUEST'
    | 'UNKNOWN_OPTION'
    | 'INVALID_OPTION'
    | 'NOT_FOUND'
    | 'CONFLICT'
    | 'OVERLAP'
    | 'PORT_IN_USE'
    | 'NOT_READY'
    | 'TIMEOUT'
    | 'BUSY'
    | 'PRECONDITION_FAILED'
    | 'UNAUTHORIZED'
    | 'FORBIDDEN'

  constructor(code: DriverError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
