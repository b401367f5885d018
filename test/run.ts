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

/** What came of some files: counts, and what was said of each failed test. */
interface Outcome extends Count {
  readonly failures: readonly (readonly string[])[]
}

/** Runs ava on files and counts its TAP lines; shows what took part, and keeps what failed. */
async function ava(files: readonly string[], options: readonly string[]): Promise<Outcome> {
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
  const failures: string[][] = []
  let failing = false
  let counted = 0
  let passed = 0
  for await (const line of createInterface({ input: child.stdout })) {
    const result = /^(not )?ok \d+ - /.exec(line)
    if (result !== null) {
      counted++
      failing = result[1] !== undefined
      if (failing) failures.push([])
      // What belongs to long runs has not passed.
      else if (!/# SKIP\b/.test(line)) passed++
    }
    // What passed in a guest is no news of what failed there.
    if (failing && !/^# +ok \d+ - /.test(line)) failures.at(-1)?.push(line)
    if (failing) {
      if (result !== null) console.log(`# failed: ${line.slice(result[0].length)}`)
    } else if (result === null ? line.startsWith('# ') : mode !== 'unit') console.log(line)
  }
  const status = await ended
  // A run that died without a failed test (or without any test) has failed all the same.
  if ((status !== 0 && failures.length === 0) || counted === 0)
    failures.push([`ava ended with status ${status} after ${counted} tests of ${files.join(' ')}`])
  return { passed, failed: failures.length, failures }
}

function count({ passed, failed, failures }: Outcome): void {
  total.passed += passed
  total.failed += failed
  for (const lines of failures) reports.push(lines)
}

/**
 * A file of real systems. On a machine that stalls, one of a thousand waits ends too early: what
 * fails is run once more, which the report tells. Long runs look for just that and repeat nothing.
 */
async function runSystem(file: string): Promise<void> {
  const startMs = performance.now()
  const first = await ava([file], ['--serial', '--timeout=15m'])
  const tookS = Math.round((performance.now() - startMs) / 1000)
  console.log(`# took ${tookS} s`)
  if (first.failed === 0 || mode === 'long' || tookS > repeatableS) return count(first)
  repeatableS -= tookS
  console.log(`# ${file} once more`)
  const second = await ava([file], ['--serial', '--timeout=15m'])
  if (second.failed === 0)
    for (const lines of first.failures)
      reports.push(lines.map((line) => `# the first run of ${file}: ${line}`))
  count(second)
}

/** How long files may have taken that are run again, together: the time of it all is bounded. */
let repeatableS = 600
/** What failed, to be read at the end. */
const reports: (readonly string[])[] = []
const folders = ['packet', 'topology', 'simulator', 'datapath', 'driver', 'gateway', 'agent', 'cli']
check('format and lint', 'node_modules/.bin/biome', [
  'ci',
  '--colors=off',
  '--error-on-warnings',
  '.',
])
count(await ava([...folders.flatMap(testFiles), ...testFiles('tidy')], []))
if (mode !== 'unit') {
  if (mode === 'long') process.env.MIDONET_LONG = '1'
  ensurePackages()
  for (const file of testFiles('system')) {
    console.log(`# ${file}`)
    await runSystem(file)
  }
}
for (const lines of reports) console.log(excerpt(lines).join('\n'))
const line = `${total.passed} passed, ${total.failed} failed`
writeFileSync(`${root}build/test-count`, `${line}\n`)
console.log(line)
process.exitCode = total.failed === 0 ? 0 : 1

/** Of a long report its beginning and its end. */
function excerpt(lines: readonly string[]): readonly string[] {
  return lines.length <= 120 ? lines : [...lines.slice(0, 40), '[…]', ...lines.slice(-80)]
}
