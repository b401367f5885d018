import { readFileSync } from 'node:fs'

/** This build's version, from package.json beside or above the built files. */
export const version: string = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
).version
