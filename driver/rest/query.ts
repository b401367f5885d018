/** Lists: which objects, how many, and where the next page begins. */
import type { Kind, ObjectOf } from '../../topology/model.ts'
import { DriverError } from '../error.ts'

export const limits = { pageDefault: 1000, pageMax: 10_000, filters: 16 } as const

export interface ListQuery {
  readonly limit: number
  /** The id after which the page begins. */
  readonly after: string | undefined
  /** Field paths such as `bridge` or `action.kind`, and the text their value must have. */
  readonly filters: readonly (readonly [path: readonly string[], text: string])[]
}

export interface Page {
  readonly items: readonly ObjectOf<Kind>[]
  /** The `after` of the next page; undefined on the last. */
  readonly next: string | undefined
}

/** Reads `?limit=&after=&FIELD=VALUE…`. @throws DriverError code `INVALID_REQUEST` */
export function readListQuery(query: Readonly<Record<string, unknown>>): ListQuery {
  const { limit, after, ...filters } = query
  const count = limit === undefined ? limits.pageDefault : Number(limit)
  if (!Number.isInteger(count) || count < 1 || count > limits.pageMax)
    throw invalid(`limit must be a whole number from 1 to ${limits.pageMax}`)
  if (after !== undefined && typeof after !== 'string') throw invalid('after must be one id')
  const entries = Object.entries(filters)
  if (entries.length > limits.filters) throw invalid(`more than ${limits.filters} filters`)
  return { limit: count, after, filters: entries.map(readFilter) }
}

function readFilter([path, text]: [string, unknown]): readonly [readonly string[], string] {
  if (typeof text !== 'string') throw invalid(`filter ${path.slice(0, 40)}: give it once`)
  return [path.split('.'), text]
}

/** The page of a list (ordered by id) that a query asks for. */
export function pageOf(list: readonly ObjectOf<Kind>[], query: ListQuery): Page {
  const items: ObjectOf<Kind>[] = []
  for (let at = firstAfter(list, query.after); at < list.length; at++) {
    const value = list[at]
    if (value === undefined || !query.filters.every((filter) => fits(value, filter))) continue
    if (items.length === query.limit) return { items, next: items.at(-1)?.id }
    items.push(value)
  }
  return { items, next: undefined }
}

function firstAfter(list: readonly ObjectOf<Kind>[], after: string | undefined): number {
  if (after === undefined) return 0
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((list[middle]?.id ?? '') <= after) low = middle + 1
    else high = middle
  }
  return low
}

/** A field fits by its text; one of a list's members is enough; a missing one fits the empty text. */
function fits(value: unknown, [path, text]: readonly [readonly string[], string]): boolean {
  let part = value
  for (const name of path) {
    if (typeof part !== 'object' || part === null) return text === ''
    part = Object.getOwnPropertyDescriptor(part, name)?.value
  }
  if (part === undefined) return text === ''
  if (Array.isArray(part)) return part.some((member) => String(member) === text)
  return typeof part !== 'object' && String(part) === text
}

function invalid(message: string): DriverError {
  return new DriverError('INVALID_REQUEST', message)
}
