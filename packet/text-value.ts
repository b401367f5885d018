/** The pieces of the text form: a scanner that knows where it is, and values with masks. */
import { formatIp, formatIpv6, formatMac, parseIp, parseIpv6, parseMac } from './address.ts'

/** The text is not what it should be. `position` counts characters from 0. */
export class TextError extends Error {
  override readonly name = 'TextError'
  readonly code = 'INVALID_TEXT'
  readonly position: number

  constructor(text: string, position: number, expected: string) {
    const found = position < text.length ? `"${text.slice(position, position + 20)}"` : 'the end'
    super(`at character ${position}, ${found}: expected ${expected}`)
    this.position = position
  }
}

/** A cursor over text; spaces between pieces are skipped. */
export class Scanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  get position(): number {
    this.#skipSpaces()
    return this.#at
  }

  get atEnd(): boolean {
    return this.position === this.#text.length
  }

  /** A name or value: everything up to punctuation; '' when there is none. */
  word(): string {
    this.#skipSpaces()
    const start = this.#at
    while (this.#at < this.#text.length && !' ,()=/'.includes(this.#text[this.#at] ?? ''))
      this.#at++
    return this.#text.slice(start, this.#at)
  }

  /** Moves over `mark` when it is next, and says whether it was. */
  takes(mark: string): boolean {
    this.#skipSpaces()
    if (!this.#text.startsWith(mark, this.#at)) return false
    this.#at += mark.length
    return true
  }

  expect(mark: string): void {
    if (!this.takes(mark)) this.fail(`"${mark}"`)
  }

  /** Runs `item` for each piece between parentheses, commas between them. */
  list(item: () => unknown): void {
    this.expect('(')
    if (this.takes(')')) return
    do item()
    while (this.takes(','))
    this.expect(')')
  }

  fail(expected: string, position = this.position): never {
    throw new TextError(this.#text, position, expected)
  }

  #skipSpaces(): void {
    while (this.#text[this.#at] === ' ') this.#at++
  }
}

/** How a value is written: `type` is hex of four digits, `frag` is no, first or later. */
export type Notation = 'decimal' | 'hex' | 'type' | 'mac' | 'ip' | 'ipv6' | 'frag'

const expectations: Record<Notation, string> = {
  decimal: 'a number',
  hex: 'a number',
  type: 'a number',
  mac: 'a MAC address such as 02:00:00:00:00:0a',
  ip: 'an IPv4 address such as 10.1.0.2',
  ipv6: 'an IPv6 address such as fd00::2',
  frag: 'no, first or later',
}

const fragNames = ['no', 'first', 'later']

export function formatValue(notation: Notation, value: bigint): string {
  switch (notation) {
    case 'decimal':
      return value.toString()
    case 'hex':
      return value === 0n ? '0' : `0x${value.toString(16)}`
    case 'type':
      return `0x${value.toString(16).padStart(4, '0')}`
    case 'mac':
      return formatMac(Number(value))
    case 'ip':
      return formatIp(Number(value))
    case 'ipv6':
      return formatIpv6(value)
    case 'frag':
      return fragNames[Number(value)] ?? value.toString()
  }
}

/** Masks of addresses are written as addresses, all others in hex. */
export function formatMask(notation: Notation, mask: bigint): string {
  return isAddress(notation) ? formatValue(notation, mask) : formatValue('hex', mask)
}

/** Reads one value of at most `bits` bits. @throws TextError */
export function parseValue(scanner: Scanner, notation: Notation, bits: number): bigint {
  const position = scanner.position
  const word = scanner.word()
  const value = readWord(notation, word)
  if (value === undefined) scanner.fail(expectations[notation], position)
  if (value >= 1n << BigInt(bits)) scanner.fail(`at most ${(1n << BigInt(bits)) - 1n}`, position)
  return value
}

/** Reads the mask behind a value's slash. @throws TextError */
export function parseMask(scanner: Scanner, notation: Notation, bits: number): bigint {
  return parseValue(scanner, isAddress(notation) ? notation : 'hex', bits)
}

/** @throws TextError */
export function parseNumber(scanner: Scanner, notation: Notation, bits: number): number {
  return Number(parseValue(scanner, notation, bits))
}

function isAddress(notation: Notation): boolean {
  return notation === 'mac' || notation === 'ip' || notation === 'ipv6'
}

function readWord(notation: Notation, word: string): bigint | undefined {
  switch (notation) {
    case 'mac':
      return toBigInt(parseMac(word))
    case 'ip':
      return toBigInt(parseIp(word))
    case 'ipv6':
      return parseIpv6(word)
    case 'frag':
      return fragNames.includes(word) ? BigInt(fragNames.indexOf(word)) : numberOf(word)
    case 'decimal':
    case 'hex':
    case 'type':
      return numberOf(word)
  }
}

/** Decimal or 0x and hex digits, of at most 32 digits so that no input makes a giant. */
function numberOf(word: string): bigint | undefined {
  return /^(0x[0-9a-f]{1,32}|\d{1,32})$/i.test(word) ? BigInt(word) : undefined
}

function toBigInt(value: number | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value)
}
