/**
 * One call of CNI (specification 1.1): the agent does it, an IPAM plugin that the configuration
 * names gives the addresses. The answer, or the error, is one JSON object on standard output.
 */
import type { Writable } from 'node:stream'
import { askAgent, openNetns } from './agent.ts'
import { CniCommandError, codes } from './error.ts'
import {
  type Command,
  type Config,
  checkEnvironment,
  type Environment,
  parseInput,
  readCommand,
  readConfig,
  readInput,
  versionOf,
} from './input.ts'
import { ipamOf, runIpam } from './ipam.ts'
import {
  isRecord,
  isVersion,
  newest,
  type Result,
  readResult,
  versions,
  writeResult,
} from './result.ts'

/** Runs one call; resolves with the exit status. */
export async function runCni(
  env: Environment,
  input: AsyncIterable<Buffer | string>,
  output: Writable,
): Promise<number> {
  const told: { version: unknown } = { version: newest }
  let answer: object | undefined
  let status = 0
  try {
    const command = readCommand(env)
    const text = await readInput(input)
    answer = command === 'VERSION' ? tellVersions(text) : await call(command, text, env, told)
  } catch (error) {
    const code = error instanceof CniCommandError ? error.number : 199
    const msg = error instanceof Error ? error.message : String(error)
    answer = { cniVersion: told.version, code, msg }
    status = 1
  }
  if (answer !== undefined)
    await new Promise((resolve) => output.write(`${JSON.stringify(answer)}\n`, resolve))
  return status
}

/** A runtime need not give a configuration here. */
function tellVersions(text: string): object {
  const values = text.trim() === '' ? {} : parseInput(text)
  const { cniVersion = newest } = values
  return { cniVersion, supportedVersions: versions }
}

async function call(
  command: Exclude<Command, 'VERSION'>,
  text: string,
  env: Environment,
  told: { version: unknown },
): Promise<object | undefined> {
  const values = parseInput(text)
  const version = versionOf(values)
  if (isVersion(version)) told.version = version
  const config = readConfig(command, values)
  checkEnvironment(command, env)
  const work: Work = { config, env, ipam: ipamOf(config), request: requestOf(command, config, env) }
  switch (command) {
    case 'ADD':
      return writeResult(await add(work), config.version)
    case 'DEL':
      await ask(work)
      if (work.ipam !== undefined) await runIpam(work.ipam, 'DEL', config, env)
      return undefined
    case 'CHECK':
      await check(work)
      return undefined
    case 'GC':
      await collect(work)
      return undefined
    case 'STATUS':
      await ask(work, {}, codes.unavailable)
      if (work.ipam !== undefined) await runStatus(work.ipam, work)
      return undefined
  }
}

interface Work {
  readonly config: Config
  readonly env: Environment
  /** The IPAM plugin that gives the addresses, when it is not ours. */
  readonly ipam: string | undefined
  readonly request: object
}

function requestOf(command: Command, config: Config, env: Environment): object {
  const { prevResult: _, ...values } = config.values
  const { CNI_CONTAINERID: container, CNI_IFNAME: ifname, CNI_ARGS: args, CNI_NETNS: netns } = env
  const isOfContainer = command !== 'GC' && command !== 'STATUS'
  const isInside = command === 'ADD' || command === 'CHECK'
  return {
    command,
    network: config.name,
    config: values,
    ...(isOfContainer && { container, ifname, args }),
    ...(isInside && { netns: openNetns(netns ?? '') }),
  }
}

function ask({ request, config, env }: Work, more: object = {}, unreachable?: number) {
  return askAgent({ ...request, ...more }, config, env, unreachable)
}

async function add(work: Work): Promise<Result> {
  const { config, env, ipam } = work
  const given = ipam === undefined ? undefined : await runIpam(ipam, 'ADD', config, env)
  try {
    const addresses = given && { ipam: { ips: given.ips, routes: given.routes } }
    const result = readResult((await ask(work, addresses)).result)
    if (result === undefined)
      throw new CniCommandError(codes.undecodable, 'the agent gave no result')
    const { dns } = config.values
    return { ...result, dns: isRecord(dns) ? dns : given?.dns }
  } catch (error) {
    // The address goes back; what is wrong is the first error.
    if (ipam !== undefined) await runIpam(ipam, 'DEL', config, env).catch(() => undefined)
    throw error
  }
}

async function check(work: Work): Promise<void> {
  const { config, env, ipam } = work
  const previous = readResult(config.values.prevResult)
  if (previous === undefined)
    throw new CniCommandError(codes.invalidConfig, 'prevResult: CHECK needs the result of ADD')
  await ask(work, { previous })
  if (ipam !== undefined) await runIpam(ipam, 'CHECK', config, env)
}

async function collect(work: Work): Promise<void> {
  const { config, env, ipam } = work
  const attachments = config.values['cni.dev/valid-attachments']
  if (!Array.isArray(attachments))
    throw new CniCommandError(codes.invalidConfig, 'cni.dev/valid-attachments: must be a list')
  const { removed } = await ask(work, { attachments })
  if (ipam === undefined) return
  try {
    await runIpam(ipam, 'GC', config, env)
  } catch {
    // It is older than GC: it is told of each that is gone.
    for (const one of Array.isArray(removed) ? removed.filter(isRecord) : []) {
      const variables = {
        CNI_CONTAINERID: String(one.container),
        CNI_IFNAME: String(one.ifname),
        CNI_NETNS: String(one.netns),
      }
      await runIpam(ipam, 'DEL', config, { ...env, ...variables })
    }
  }
}

/** One that is older than STATUS can say nothing of it. */
async function runStatus(ipam: string, { config, env }: Work): Promise<void> {
  try {
    await runIpam(ipam, 'STATUS', config, env)
  } catch (error) {
    const isOld = error instanceof CniCommandError && ![50, 51].includes(error.number)
    if (!isOld) throw error
  }
}
