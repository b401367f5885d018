/** This host's identity in the topology: made once, kept in the state directory. */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The host id file holds no id; the message says what to do. */
export class HostIdError extends Error {
  override readonly name = 'HostIdError'
  readonly code = 'INVALID_HOST_ID'
}

const form = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Reads the id, or makes one. @throws HostIdError */
export function loadHostId(stateDir: string): string {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 })
  const file = fileOf(stateDir)
  const known = read(file)
  if (known === undefined) {
    const id = randomUUID()
    // Written aside and renamed, so that a crash leaves no half of an id.
    writeFileSync(`${file}.new`, `${id}\n`, { mode: 0o600, flush: true })
    renameSync(`${file}.new`, file)
    return id
  }
  if (form.test(known)) return known
  throw new HostIdError(
    `${file} holds no host id; restore it, or remove it to make this a new host`,
  )
}

/** The id that this host has; undefined when it has none yet. @throws HostIdError */
export function knownHostId(stateDir: string): string | undefined {
  return existsSync(fileOf(stateDir)) ? loadHostId(stateDir) : undefined
}

const fileOf = (stateDir: string): string => join(stateDir, 'host-id')

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
