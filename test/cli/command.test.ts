/** The program itself: arguments, scripts, exit status, and a terminal. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import test from 'ava'
import { type Agent, startAgent } from '../driver/agent.ts'

const cli = new URL('../../cli.js', import.meta.url).pathname

interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program with `input`, piece by piece: each as soon as the text before it was printed. */
function run(
  agent: Agent,
  command: readonly string[],
  input: readonly { readonly after: string; readonly type: string }[] = [],
  interactive = false,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const [program = '', ...args] = command
    const env = { ...process.env, MIDONET_RUN_DIR: dirname(agent.apiSocketPath), HOME: agent.dir }
    const child = spawn(program, args, { env: { ...env, TERM: 'xterm', COLUMNS: '200' } })
    let [stdout, stderr] = ['', '']
    const waiting = [...input]
    let seen = 0
    const feed = () => {
      for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
        const at = stdout.indexOf(next.after, seen)
        if (at < 0) return
        seen = at + next.after.length
        child.stdin.write(next.type)
        waiting.shift()
      }
    }
    child.stdout.on('data', (part) => {
      stdout += part
      feed()
    })
    child.stderr.on('data', (part) => {
      stderr += part
    })
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, stdout, stderr }))
    feed()
    if (!interactive) child.stdin.end()
  })
}

const evaluate = (agent: Agent, ...args: string[]) =>
  run(agent, [process.execPath, cli, 'cli', ...args])

function script(agent: Agent, text: string, ...args: string[]): Promise<Ended> {
  return run(agent, [process.execPath, cli, 'cli', ...args], [{ after: '', type: text }])
}

test('-e runs commands, prints ids and tells by its status how it went', async (t) => {
  const agent = await startAgent(t)
  const made = await evaluate(agent, '-e', 'router create name r')
  const id = agent.store.list('router')[0]?.id ?? ''
  t.deepEqual(made, { status: 0, stdout: `${id}\n`, stderr: '' })
  const both = await evaluate(agent, '-e', 'router list', '-e', 'router router0 show state')
  t.deepEqual(both, { status: 0, stdout: `router ${id} name r state up\nup\n`, stderr: '' })
  const aliases = await evaluate(agent, '--aliases', '-e', 'router', 'list')
  t.is(aliases.stdout, 'router router0 name r state up\n')
  const json = await evaluate(agent, '--json', '-e', 'router list')
  t.deepEqual(JSON.parse(json.stdout), [{ id, name: 'r', state: 'up' }])
  const refused = await evaluate(agent, '-e', 'router nobody show')
  t.deepEqual(refused, { status: 1, stdout: '', stderr: 'there is no router nobody\n' })
  t.is((await evaluate(agent, '-e', 'router r frobnicate')).status, 2)
  t.is((await evaluate(agent, '--frobnicate')).status, 2)
  await agent.driver.close()
  const away = await evaluate(agent, '-e', 'router list')
  t.is(away.status, 1)
  t.regex(away.stderr, /no agent runs here .*; start one: midonet agent/)
})

test('a script on standard input ends at its first error', async (t) => {
  const agent = await startAgent(t)
  const good = await script(
    agent,
    'router create name a # the first\n\nbridge create name b\nrouter router0 add port address 10.1.0.1/24\n',
  )
  t.is(good.status, 0, good.stderr)
  t.is(good.stdout.trim().split('\n').length, 3)
  t.is(agent.store.list('port').length, 1)
  const bad = await script(
    agent,
    'bridge create name c\nbridge create nome d\nbridge create name e\n',
  )
  t.is(bad.status, 2)
  t.is(bad.stderr, 'Syntax error at: nome d\n')
  t.deepEqual(
    agent.store
      .list('bridge')
      .map(({ name }) => name)
      .sort(),
    ['b', 'c'],
  )
})

test('on a terminal: prompt, completion, errors that end nothing, history', async (t) => {
  const agent = await startAgent(t)
  const session = (input: readonly { after: string; type: string }[]) =>
    run(agent, ['script', '-qec', `"${process.execPath}" "${cli}" cli`, '/dev/null'], input, true)
  const prompt = 'midonet> '
  const first = await session([
    { after: prompt, type: 'router create name shop\r' },
    { after: 'router0', type: '' },
    { after: prompt, type: 'rou\t' },
    { after: 'router ', type: 'router\t' },
    { after: 'router0 ', type: 'set st\t' },
    { after: 'state ', type: 'do\t' },
    { after: 'down ', type: '\r' },
    { after: prompt, type: 'router router9 show\r' },
    { after: 'there is no router router9', type: '' },
    { after: prompt, type: 'router router0 show state\r' },
    { after: 'down', type: '' },
    { after: prompt, type: 'exit\r' },
  ])
  t.is(first.status, 0, first.stdout)
  t.is(agent.store.list('router')[0]?.adminUp, false)
  const history = `${agent.dir}/.midonet_history`
  t.true(existsSync(history))
  t.regex(readFileSync(history, 'utf8'), /router router0 show state/)
  const second = await session([
    { after: prompt, type: '\u001b[A\u001b[A\r' },
    { after: 'down', type: '' },
    { after: prompt, type: '\u0004' },
  ])
  t.is(second.status, 0, second.stdout)
})
