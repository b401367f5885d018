/**
 * Runs the checks: `unit` (types are checked by the build before; format, lint, pure tests),
 * nothing (unit and system), `long` (everything, with the soaks). The last line counts them all.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { ensurePackages } from './system/packages.ts'

interface Count {
  passed: number
  failed: number
}

const mode = process.argv[2] ?? 'all'
const root = new URL('../..', import.meta.url).pathname
const built = new URL('.', import.meta.url).pathname
const total: Count = { passed: 0, failed: 0 }

function check(name: string, command: string, args: readonly string[]): void {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  console.log(`${status === 0 ? 'ok' : 'not ok'} - ${name}`)
  if (status === 0) total.passed++
  else total.failed++
}

function testFiles(folder: string): string[] {
  if (!existsSync(`${built}${folder}`)) return []
  return readdirSync(`${built}${folder}`, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => `${built}${folder}/${name}`.slice(root.length))
    .sort()
}

/** Runs ava on files and counts its TAP lines; shows what failed and what took part. */
async function ava(files: readonly string[], options: readonly string[]): Promise<void> {
  const child = spawn(
    process.execPath,
    ['node_modules/ava/entrypoints/cli.mjs', '--tap', ...options, ...files],
    {
      cwd: root,
      env: { ...process.env, BUILD: built.slice(root.length).split('/')[0] },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  let failing = false
  let counted = 0
  for await (const line of createInterface({ input: child.stdout })) {
    const result = /^(not )?ok \d+ - /.exec(line)
    if (result !== null) {
      counted++
      failing = result[1] !== undefined
      if (failing) total.failed++
      // What belongs to long runs has not passed.
      else if (!/# SKIP\b/.test(line)) total.passed++
    }
    if (result !== null ? failing || mode !== 'unit' : failing || line.startsWith('# '))
      console.log(line)
  }
  const status = await ended
  // A run that died without a failed test (or without any test) has failed all the same.
  if (status !== 0 || counted === 0) {
    console.log(`ava ended with status ${status} after ${counted} tests`)
    if (total.failed === 0) total.failed++
  }
}

const folders = ['packet', 'topology', 'simulator', 'datapath', 'driver', 'gateway', 'agent', 'cli']
check('format and lint', 'node_modules/.bin/biome', [
  'ci',
  '--colors=off',
  '--error-on-warnings',
  '.',
])
await ava([...folders.flatMap(testFiles), ...testFiles('tidy')], [])
if (mode !== 'unit') {
  if (mode === 'long') process.env.MIDONET_LONG = '1'
  ensurePackages()
  for (const file of testFiles('system')) {
    console.log(`# ${file}`)
    const startMs = performance.now()
    await ava([file], ['--serial', '--timeout=15m'])
    console.log(`# took ${Math.round((performance.now() - startMs) / 1000)} s`)
  }
}
const line = `${total.passed} passed, ${total.failed} failed`
writeFileSync(`${root}build/test-count`, `${line}\n`)
console.log(line)
process.exitCode = total.failed === 0 ? 0 : 1
