/** Asks the agent of this host. */
import { fstatSync, openSync } from 'node:fs'
import { request } from 'node:http'
import { CniCommandError, codes } from './error.ts'
import type { Config, Environment } from './input.ts'
import { isRecord } from './result.ts'

export const limits = { answerMs: 45_000, answerSizeMax: 16 * 1024 * 1024 } as const

/** @throws CniCommandError with the agent's code and words, or `unreachable` when it does not answer */
export async function askAgent(
  body: object,
  { values }: Config,
  env: Environment,
  unreachable: number = codes.tryAgain,
): Promise<Readonly<Record<string, unknown>>> {
  const given = values.agentSocket
  const socketPath =
    typeof given === 'string' ? given : `${env.MIDONET_RUN_DIR || '/run/midonet'}/agent.sock`
  let answer: unknown
  try {
    answer = JSON.parse(await post(socketPath, JSON.stringify(body)))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const what = `the agent of this host does not answer at ${socketPath}: ${reason}`
    throw new CniCommandError(unreachable, what, { cause: error })
  }
  if (!isRecord(answer)) throw new CniCommandError(unreachable, 'the agent’s answer is no object')
  const { error, message } = answer
  if (isRecord(error) && typeof error.code === 'number')
    throw new CniCommandError(error.code, String(error.msg))
  if (typeof message === 'string') throw new CniCommandError(unreachable, message)
  return answer
}

function post(socketPath: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    const outgoing = request({ socketPath, method: 'POST', path: '/cni', headers }, (incoming) => {
      const parts: Buffer[] = []
      let size = 0
      incoming.on('data', (part: Buffer) => {
        size += part.length
        if (size > limits.answerSizeMax) outgoing.destroy()
        else parts.push(part)
      })
      incoming.on('error', reject)
      incoming.on('end', () => resolve(Buffer.concat(parts).toString()))
    })
    outgoing.setTimeout(limits.answerMs, () =>
      outgoing.destroy(new CniCommandError(codes.tryAgain, 'no answer in time')),
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/**
 * Opens the container's network namespace and says how the agent finds it: it may see other files
 * than we do, but this process's descriptors it sees. @throws CniCommandError `unknownContainer`
 */
export function openNetns(path: string): object {
  try {
    // Not to wait for the other end of what is a pipe.
    const fd = openSync(path, 0o4000)
    const { dev, ino } = fstatSync(fd)
    return { path, pid: process.pid, fd, device: dev, inode: ino }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new CniCommandError(codes.unknownContainer, `CNI_NETNS: ${reason}`, { cause: error })
  }
}
