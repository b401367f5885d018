/** What was typed in earlier sessions, in a file that only its owner reads. */
import { readFileSync, writeFileSync } from 'node:fs'

/** Latest first, as the terminal wants it; nothing when there is no file. */
export function loadHistory(file: string, countMax: number): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean).slice(0, countMax)
  } catch {
    return []
  }
}

/** A history that cannot be kept is no reason to stop. */
export function saveHistory(file: string, lines: readonly string[]): void {
  try {
    writeFileSync(file, lines.join('\n'), { mode: 0o600 })
  } catch {
    // A home that cannot be written: the session goes on without.
  }
}
