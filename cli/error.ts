/** The line cannot be understood, or the agent refused; `status` is the command's exit status. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly code: 'SYNTAX' | 'REFUSED' | 'UNREACHABLE' | 'NOT_FOUND'

  constructor(code: CliError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  /** 2 for what was typed wrong, 1 for what was refused. */
  get status(): number {
    return this.code === 'SYNTAX' ? 2 : 1
  }
}

/** What the original says, too, with the rest of the line from the word that does not fit. */
export function syntaxError(rest: readonly string[], hint?: string): CliError {
  const what =
    rest.length === 0
      ? 'Missing arguments, incomplete command'
      : `Syntax error at: ${rest.join(' ')}`
  return new CliError('SYNTAX', hint === undefined ? what : `${what} (${hint})`)
}

/** Something that a command needs was not typed. @throws CliError code `SYNTAX` */
export function missing(what: string): never {
  throw syntaxError([], what)
}
