/** The way out and in cannot be made or kept; the message says what to do. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code:
    | 'COMMAND_MISSING'
    | 'COMMAND_FAILED'
    | 'TIMEOUT'
    | 'NO_ADDRESS'
    | 'FAILED'
    | 'STOPPED'

  constructor(code: GatewayError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
