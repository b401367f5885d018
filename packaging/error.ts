/** The plugin cannot be built; the message says what is missing and how to get it. */
export class PackagingError extends Error {
  override readonly name = 'PackagingError'
  readonly code: 'MISSING' | 'INVALID' | 'COMMAND'

  constructor(code: PackagingError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
