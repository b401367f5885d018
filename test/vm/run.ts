/**
 * `npm run vm -- [--kernel 6.1|6.12] [--icount] [--timeout S] COMMAND…`: runs a command in a guest
 * with Open vSwitch's kernel module, prints its output and ends with its exit status.
 */
import { BedError, type Series, series } from './kernel.ts'
import { runInVm, type VmOptions } from './vm.ts'

const usage =
  'usage: npm run vm -- [--kernel 6.1|6.12] [--icount] [--cpus N] [--memory MB] [--timeout S] COMMAND…'

interface Request {
  readonly command: string
  readonly options: VmOptions
}

/** Options end with the first word that is none. @throws BedError */
function readArguments(args: readonly string[]): Request {
  const words = [...args]
  let options: VmOptions = {}
  while (words[0]?.startsWith('--')) {
    const name = words.shift()
    if (name === '--icount') options = { ...options, icount: true }
    else if (name === '--kernel') options = { ...options, kernel: readSeries(words.shift()) }
    else if (name === '--timeout') options = { ...options, timeoutS: readNumber(words.shift()) }
    else if (name === '--cpus') options = { ...options, processors: readNumber(words.shift()) }
    else if (name === '--memory') options = { ...options, memoryMb: readNumber(words.shift()) }
    else throw new BedError(usage)
  }
  if (words.length === 0) throw new BedError(usage)
  return { command: words.join(' '), options }
}

function readSeries(text: string | undefined): Series {
  const found = series.find((name) => name === text)
  if (found === undefined) throw new BedError(`--kernel is one of ${series.join(', ')}`)
  return found
}

function readNumber(text: string | undefined): number {
  const value = Number(text)
  if (!(value > 0)) throw new BedError(usage)
  return value
}

try {
  const { command, options } = readArguments(process.argv.slice(2))
  const output = (chunk: Buffer) => process.stdout.write(chunk)
  const { status } = await runInVm(command, { ...options, output })
  process.exitCode = status
} catch (error) {
  if (!(error instanceof BedError)) throw error
  console.error(`vm: ${error.message}`)
  process.exitCode = 125
}
