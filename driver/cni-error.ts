/** What CNI's calls are refused with: the specification's codes, and ours from 100 on. */
import { LinkError } from '../datapath/link.ts'
import { StoreError, TopologyError } from '../topology/error.ts'
import { DriverError } from './error.ts'

/** CNI specification 1.1, "Error"; from `exists` on they are our own. */
export const cniCodes = {
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  invalidConfig: 7,
  tryAgain: 11,
  unavailable: 50,
  exists: 101,
  differs: 102,
  conflict: 103,
  failed: 199,
} as const

/** A call of CNI is refused; `number` is what the runtime is told. */
export class CniError extends Error {
  override readonly name = 'CniError'
  readonly code: keyof typeof cniCodes

  constructor(code: keyof typeof cniCodes, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  get number(): number {
    return cniCodes[this.code]
  }
}

/** As the specification has it. */
export interface CniErrorAnswer {
  readonly code: number
  readonly msg: string
}

/** Any fault as the answer of a CNI command: its code (specification, section 5) and a sentence. */
export function describeCniError(error: unknown): CniErrorAnswer {
  const msg = error instanceof Error ? error.message : String(error)
  return { code: error instanceof CniError ? error.number : cniCodes[codeOf(error)], msg }
}

function codeOf(error: unknown): keyof typeof cniCodes {
  if (error instanceof StoreError) return 'tryAgain'
  if (error instanceof TopologyError)
    return error.code === 'CONFLICT' ? 'conflict' : 'invalidConfig'
  if (error instanceof LinkError) return 'failed'
  if (!(error instanceof DriverError)) return 'failed'
  switch (error.code) {
    case 'TIMEOUT':
    case 'BUSY':
    case 'NOT_READY':
      return 'tryAgain'
    case 'CONFLICT':
    case 'OVERLAP':
    case 'PORT_IN_USE':
      return 'conflict'
    default:
      return 'invalidConfig'
  }
}
