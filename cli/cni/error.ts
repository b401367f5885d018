/** A refusal as the runtime is told it; `number` is of the specification's table. */
export class CniCommandError extends Error {
  override readonly name = 'CniCommandError'
  readonly code = 'CNI_REFUSED'
  readonly number: number

  constructor(number: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.number = number
  }
}

/** CNI specification 1.1, "Error". */
export const codes = {
  incompatibleVersion: 1,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  undecodable: 6,
  invalidConfig: 7,
  tryAgain: 11,
  unavailable: 50,
} as const
