/** What a runtime says: its environment variables and the configuration on standard input. */
import { CniCommandError, codes } from './error.ts'
import { isAtLeast, isRecord, isVersion, newest, type Version } from './result.ts'

export const limits = { inputSizeMax: 4 * 1024 * 1024, inputMs: 10_000 } as const

export const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const
export type Command = (typeof commands)[number]
export type Environment = Readonly<Record<string, string | undefined>>

export interface Config {
  readonly version: Version
  readonly name: string
  readonly values: Readonly<Record<string, unknown>>
}

/** What each needs; and since which version of the specification it is. */
const needs: Readonly<Record<Exclude<Command, 'VERSION'>, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
}
const since: Partial<Record<Command, Version>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' }

const forms: Readonly<Record<string, RegExp>> = {
  CNI_CONTAINERID: /^[0-9A-Za-z][0-9A-Za-z_.-]{0,254}$/,
  CNI_IFNAME: /^(?!\.{1,2}$)[^\s/:]{1,15}$/,
  CNI_NETNS: /^.{1,4096}$/s,
}

/** @throws CniCommandError `invalidEnvironment` */
export function readCommand({ CNI_COMMAND: text }: Environment): Command {
  const command = commands.find((one) => one === text)
  if (command !== undefined) return command
  const what = text ? `is ${text.slice(0, 40)}` : 'is not set'
  const hint = `it must be one of ${commands.join(', ')}`
  throw new CniCommandError(codes.invalidEnvironment, `CNI_COMMAND ${what}; ${hint}`)
}

/** @throws CniCommandError `invalidEnvironment` that names the variables */
export function checkEnvironment(command: Exclude<Command, 'VERSION'>, env: Environment): void {
  const missing = needs[command].filter((name) => !env[name])
  if (missing.length > 0) {
    const are = missing.length === 1 ? 'is' : 'are'
    throw new CniCommandError(
      codes.invalidEnvironment,
      `${missing.join(', ')} ${are} not set; ${command} needs ${needs[command].join(', ')}`,
    )
  }
  const wrong = needs[command].filter((name) => !forms[name]?.test(env[name] ?? ''))
  if (wrong.length > 0)
    throw new CniCommandError(codes.invalidEnvironment, `${wrong.join(', ')}: not valid`)
}

/** All of standard input. @throws CniCommandError `io` */
export async function readInput(input: AsyncIterable<Buffer | string>): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const error = new CniCommandError(codes.io, 'standard input does not end')
    timer = setTimeout(() => reject(error), limits.inputMs)
  })
  const all = async () => {
    for await (const part of input) {
      size += part.length
      if (size > limits.inputSizeMax)
        throw new CniCommandError(codes.io, 'the network configuration is over 4 MiB')
      parts.push(Buffer.from(part))
    }
    return Buffer.concat(parts).toString()
  }
  try {
    return await Promise.race([all(), late])
  } catch (error) {
    if (error instanceof CniCommandError) throw error
    throw new CniCommandError(codes.io, `standard input: ${error}`, { cause: error })
  } finally {
    clearTimeout(timer)
  }
}

/** A configuration without a version is of the first. */
export function versionOf(values: Readonly<Record<string, unknown>>): unknown {
  return values.cniVersion === undefined || values.cniVersion === '' ? '0.1.0' : values.cniVersion
}

/** @throws CniCommandError `undecodable` */
export function parseInput(text: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const what = 'the network configuration on standard input is not JSON'
    throw new CniCommandError(codes.undecodable, what, { cause: error })
  }
  if (isRecord(value)) return value
  throw new CniCommandError(codes.undecodable, 'the network configuration is no JSON object')
}

/** @throws CniCommandError `incompatibleVersion`, `invalidConfig` */
export function readConfig(command: Command, values: Config['values']): Config {
  const version = versionOf(values)
  if (!isVersion(version)) {
    const what = `cniVersion ${JSON.stringify(version).slice(0, 40)} is not known here`
    throw new CniCommandError(codes.incompatibleVersion, `${what}; use ${newest} or older`)
  }
  const first = since[command]
  if (first !== undefined && !isAtLeast(version, first)) {
    const what = `cniVersion ${version} has no ${command}`
    throw new CniCommandError(codes.incompatibleVersion, `${what}; it came with ${first}`)
  }
  const { name } = values
  if (typeof name === 'string' && /^[0-9A-Za-z][0-9A-Za-z_.-]{0,254}$/.test(name))
    return { version, name, values }
  const want = 'letters, digits or _ . - after a letter or digit'
  throw new CniCommandError(codes.invalidConfig, `name: must be 1 to 255 ${want}`)
}
