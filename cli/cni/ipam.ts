/** Another IPAM plugin, run as the specification says: as this one is run, found by CNI_PATH. */
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { CniCommandError, codes } from './error.ts'
import type { Command, Config, Environment } from './input.ts'
import { isAtLeast, isRecord, isVersion, type Result, readResult, versions } from './result.ts'

export const limits = { answerMs: 30_000, answerSizeMax: 4 * 1024 * 1024 } as const

/** The IPAM plugin of a configuration; undefined when addresses are ours, or nobody's. */
export function ipamOf({ values }: Config): string | undefined {
  const { ipam } = values
  if (ipam === undefined || ipam === null) return undefined
  if (!isRecord(ipam)) throw new CniCommandError(codes.invalidConfig, 'ipam: must be an object')
  const { type = '' } = ipam
  if (type === '' || type === 'midonet') return undefined
  if (typeof type === 'string' && /^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$/.test(type)) return type
  throw new CniCommandError(codes.invalidConfig, 'ipam.type: must be the name of a plugin')
}

/** @throws CniCommandError with the plugin's own code and words */
export async function runIpam(
  type: string,
  command: Command,
  config: Config,
  env: Environment,
): Promise<Result> {
  const file = findPlugin(type, env)
  const run = (values: Config['values']) => start(file, { ...env, CNI_COMMAND: command }, values)
  let answer = await run(config.values)
  // An older one than the configuration: what it does is the same in its own version.
  if (answer.status !== 0 && answer.value?.code === codes.incompatibleVersion) {
    const cniVersion = await newestOf(file, env, config)
    if (cniVersion !== undefined) answer = await run({ ...config.values, cniVersion })
  }
  if (answer.status !== 0) throw refusal(type, answer)
  if (command !== 'ADD') return { interfaces: [], ips: [], routes: [] }
  const result = readResult(answer.value)
  if (result !== undefined && result.ips.length > 0) return result
  throw new CniCommandError(codes.invalidConfig, `IPAM plugin ${type} gave no address`)
}

function findPlugin(type: string, { CNI_PATH: path = '' }: Environment): string {
  for (const folder of path.split(delimiter).filter((one) => one !== '')) {
    const file = join(folder, type)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      // It may be in the next folder.
    }
  }
  const where = path === '' ? 'CNI_PATH is not set' : `it is not in CNI_PATH, ${path.slice(0, 200)}`
  const code = path === '' ? codes.invalidEnvironment : codes.invalidConfig
  throw new CniCommandError(code, `no IPAM plugin ${type}: ${where}`)
}

async function newestOf(
  file: string,
  env: Environment,
  { version, values }: Config,
): Promise<string | undefined> {
  const { value } = await start(file, { ...env, CNI_COMMAND: 'VERSION' }, values)
  const known = Array.isArray(value?.supportedVersions) ? value.supportedVersions : []
  return versions.findLast(
    (one) => isVersion(one) && !isAtLeast(one, version) && known.includes(one),
  )
}

interface Answer {
  readonly status: number | null
  readonly value: Readonly<Record<string, unknown>> | undefined
  readonly log: string
}

function refusal(type: string, { value, status, log }: Answer): CniCommandError {
  const number = typeof value?.code === 'number' ? value.code : codes.tryAgain
  const own = [value?.msg, value?.details].filter((one) => typeof one === 'string' && one !== '')
  const words = own.join(': ') || log.trim().slice(0, 500) || `it ended with status ${status}`
  return new CniCommandError(number, `IPAM plugin ${type}: ${words}`)
}

function start(file: string, env: Environment, values: Config['values']): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, [], { env, timeout: limits.answerMs, killSignal: 'SIGKILL' })
    const texts = { out: '', log: '' }
    const collect = (key: keyof typeof texts) => (part: Buffer) => {
      texts[key] += part
      if (texts[key].length > limits.answerSizeMax) child.kill('SIGKILL')
    }
    child.stdout.on('data', collect('out'))
    child.stderr.on('data', collect('log'))
    // Who does not want its configuration is judged by its answer.
    child.stdin.on('error', () => undefined)
    child.on('error', (error) => {
      reject(new CniCommandError(codes.io, `${file}: ${error.message}`, { cause: error }))
    })
    child.on('close', (status) => resolve({ status, value: tryParse(texts.out), log: texts.log }))
    child.stdin.end(JSON.stringify(values))
  })
}

function tryParse(text: string): Answer['value'] {
  try {
    const value: unknown = JSON.parse(text)
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}
