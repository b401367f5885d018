/** Splits a line into words as a shell does: blanks part, quotes and backslashes hold together. */
import { CliError } from './error.ts'

/** The words of a line; what follows an unquoted # is a comment. @throws CliError code `SYNTAX` */
export function splitWords(line: string): readonly string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < line.length; at++) {
    const letter = line.charAt(at)
    if (quote !== '') {
      if (letter === quote) quote = ''
      else if (letter === '\\' && quote === '"') word = `${word ?? ''}${line.charAt(++at)}`
      else word = `${word ?? ''}${letter}`
    } else if (letter === '"' || letter === "'") {
      quote = letter
      word ??= ''
    } else if (letter === '\\') word = `${word ?? ''}${line.charAt(++at)}`
    else if (/\s/.test(letter)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (letter === '#' && word === undefined) break
    else word = `${word ?? ''}${letter}`
  }
  if (quote !== '') throw new CliError('SYNTAX', `Syntax error at: ${quote} (a quote has no end)`)
  if (word !== undefined) words.push(word)
  return words
}

/** A value as it can be typed again. */
export function quoteWord(text: string): string {
  return /^[^\s"'\\#]+$/.test(text) ? text : `"${text.replaceAll(/["\\]/g, '\\$&')}"`
}
