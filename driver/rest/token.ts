/** Who may do what over TCP: tokens out of a file that only root reads. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import type { RequestHandler } from 'express'
import { DriverError } from '../error.ts'

/** `read` may look; `write` may also change. */
export type Right = 'read' | 'write'

/** The SHA-256 of a token, and what its bearer may do. The token itself is not kept. */
export interface Token {
  readonly digest: Buffer
  readonly right: Right
}

const limits = { tokens: 1024, lengthMin: 24, lengthMax: 512 } as const

/**
 * Reads a file of lines `read TOKEN` or `write TOKEN`; empty lines and those with # are left out.
 * @throws DriverError code `INVALID_OPTION` when it is not there, others can read it, or a line is none of these;
 * never with a token in the message
 */
export function readTokens(path: string): readonly Token[] {
  const mode = modeOf(path) & 0o077
  if (mode !== 0) throw invalid(path, 'others than its owner can read it; chmod 600 it')
  const tokens = readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line, at) => readLine(path, line.trim(), at + 1))
  if (tokens.length === 0) throw invalid(path, 'it has no token; write a line `write TOKEN`')
  if (tokens.length > limits.tokens) throw invalid(path, `more than ${limits.tokens} tokens`)
  return tokens
}

function modeOf(path: string): number {
  try {
    return statSync(path).mode
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw invalid(path, `${reason}; write it, with a line \`write TOKEN\`, and chmod 600 it`)
  }
}

function readLine(path: string, line: string, number: number): Token[] {
  if (line === '' || line.startsWith('#')) return []
  const [right, token, ...rest] = line.split(/\s+/)
  if ((right !== 'read' && right !== 'write') || token === undefined || rest.length > 0)
    throw invalid(path, `line ${number} is neither \`read TOKEN\` nor \`write TOKEN\``)
  if (token.length < limits.lengthMin || token.length > limits.lengthMax)
    throw invalid(
      path,
      `line ${number}: a token has ${limits.lengthMin} to ${limits.lengthMax} characters`,
    )
  return [{ digest: digestOf(token), right }]
}

/** What the bearer of an `Authorization` header may do; undefined for a stranger. */
export function rightOf(tokens: readonly Token[], header: string | undefined): Right | undefined {
  const token = /^Bearer +([\x21-\x7e]+) *$/i.exec(header ?? '')?.[1]
  if (token === undefined || token.length > limits.lengthMax) return undefined
  const digest = digestOf(token)
  let right: Right | undefined
  // All of them, and each in constant time: how long it takes tells nothing.
  for (const one of tokens) {
    const isIt = timingSafeEqual(one.digest, digest)
    if (isIt && right !== 'write') right = one.right
  }
  return right
}

/** Lets pass who has a token with the right that the method needs (RFC 6750). */
export function requireToken(tokens: () => readonly Token[]): RequestHandler {
  return (request, response, next) => {
    const right = rightOf(tokens(), request.headers.authorization)
    if (right === undefined) {
      response.set('WWW-Authenticate', 'Bearer realm="midonet"')
      throw new DriverError('UNAUTHORIZED', 'a token is needed: Authorization: Bearer TOKEN')
    }
    if (right === 'read' && request.method !== 'GET' && request.method !== 'HEAD')
      throw new DriverError('FORBIDDEN', 'this token may only read')
    next()
  }
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function invalid(path: string, problem: string): DriverError {
  return new DriverError('INVALID_OPTION', `tokens ${path}: ${problem}`)
}
