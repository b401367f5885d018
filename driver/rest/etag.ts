/** Entity tags (RFC 9110 section 8.8.3): the same object has the same tag with every agent. */
import { createHash } from 'node:crypto'
import { DriverError } from '../error.ts'

/** A strong tag of an object, quotes included. */
export function etagOf(value: object): string {
  const hash = createHash('sha256')
    .update(JSON.stringify(sorted(value)))
    .digest('base64url')
  return `"${hash.slice(0, 22)}"`
}

/** What a request says about the object it is to change; undefined is a header not sent. */
export interface Precondition {
  readonly ifMatch: string | undefined
  readonly ifNoneMatch: string | undefined
}

/**
 * Holds a change back when the object is not as its sender saw it.
 * @throws DriverError code `PRECONDITION_FAILED`
 */
export function checkPrecondition(
  { ifMatch, ifNoneMatch }: Precondition,
  standing: object | undefined,
): void {
  if (ifMatch !== undefined && !names(ifMatch, standing))
    throw new DriverError(
      'PRECONDITION_FAILED',
      'the object has changed or gone since it was read (If-Match); read it again',
    )
  if (ifNoneMatch !== undefined && names(ifNoneMatch, standing))
    throw new DriverError('PRECONDITION_FAILED', 'the object is there already (If-None-Match)')
}

/** Whether a list of tags, or `*`, names the object. */
export function names(tags: string, standing: object | undefined): boolean {
  if (standing === undefined) return false
  if (tags.trim() === '*') return true
  const tag = etagOf(standing)
  return tags.split(',').some((one) => one.trim() === tag)
}

/** The order of an object's fields says nothing. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, part]) => [key, sorted(part)]),
  )
}
