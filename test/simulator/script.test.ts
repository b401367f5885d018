/**
 * Runs the scripts in `scripts/`: paragraphs of commands, `----`, and what they show. Paragraphs
 * without `----` are prose. REWRITE=1 writes down what is shown now; read the difference before you
 * keep it.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { runLine } from './script.ts'
import { World } from './world.ts'

const folder = new URL('../../../test/simulator/scripts/', import.meta.url)

function runScript(text: string): string {
  const world = new World()
  return text
    .trimEnd()
    .split(/\n\n+/)
    .map((paragraph) => runParagraph(world, paragraph))
    .join('\n\n')
    .concat('\n')
}

function runParagraph(world: World, paragraph: string): string {
  const lines = paragraph.split('\n')
  const at = lines.indexOf('----')
  if (at < 0) return paragraph
  const commands = lines.slice(0, at)
  const shown = commands.flatMap((command) => runLine(world, command))
  return [...commands, '----', ...(shown.length === 0 ? ['ok'] : shown)].join('\n')
}

for (const name of readdirSync(folder).filter((file) => file.endsWith('.txt')))
  test(`script ${name}`, (t) => {
    const expected = readFileSync(new URL(name, folder), 'utf8')
    const shown = runScript(expected)
    if (process.env.REWRITE === '1') writeFileSync(new URL(name, folder), shown)
    t.is(shown, process.env.REWRITE === '1' ? shown : expected)
  })
