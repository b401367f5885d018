/** What flow-load.ts and steady-load.ts compare: our forwarding side and ovs-vswitchd, each on a bridge of mda and mdb. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { aclFlows } from './flow-world.ts'

/** The guest lacks something, or what was started failed. */
export class LoadError extends Error {
  override readonly name = 'LoadError'
  readonly code = 'NOT_STARTED'
}

/** Starts our forwarding side; says what it said when it was ready. @throws LoadError */
export async function startOurs(
  policy: string,
): Promise<[ChildProcess, { flows: number; adoptMs: number }]> {
  const script = new URL('flow-agent.js', import.meta.url).pathname
  const child = spawn(process.execPath, [script, policy], { stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: child.stdout }))
    if (line.startsWith('READY ')) return [child, JSON.parse(line.slice(6))]
  throw new LoadError('our agent ended before it was ready')
}

const environment = { OVS_RUNDIR: '/tmp/ovs', OVS_LOGDIR: '/tmp/ovs', OVS_DBDIR: '/tmp/ovs' }

/** New flows that ovs-vswitchd has not installed, for it had as many as it wants. @throws LoadError */
export function countUnkept(): number {
  const counter = ['coverage/read-counter', 'upcall_flow_limit_hit']
  return Number(runTool('ovs-appctl', counter, environment))
}

/** Starts Open vSwitch with a bridge of both interfaces; says its process id. @throws LoadError */
export function startPeer(policy: string): number {
  mkdirSync('/tmp/ovs', { recursive: true })
  const schema = '/usr/share/openvswitch/vswitch.ovsschema'
  const socket = '/tmp/ovs/db.sock'
  const run = (command: string, ...args: string[]): string => runTool(command, args, environment)
  run('ovsdb-tool', 'create', '/tmp/ovs/conf.db', schema)
  run('ovsdb-server', '/tmp/ovs/conf.db', `--remote=punix:${socket}`, '--pidfile', '--detach')
  run('ovs-vsctl', `--db=unix:${socket}`, '--no-wait', 'init')
  run('ovs-vswitchd', `unix:${socket}`, '--pidfile', '--detach', '--log-file=/tmp/ovs/log')
  const bridge = ['add-br', 'br0', '--', 'add-port', 'br0', 'mda', '--', 'add-port', 'br0', 'mdb']
  run('ovs-vsctl', `--db=unix:${socket}`, ...bridge)
  if (policy === 'acl') {
    writeFileSync('/tmp/ovs/flows', aclFlows())
    run('ovs-ofctl', 'add-flows', 'unix:/tmp/ovs/br0.mgmt', '/tmp/ovs/flows')
  }
  return Number(readFileSync('/tmp/ovs/ovs-vswitchd.pid', 'utf8'))
}

/** Runs a command to its end; what it printed. @throws LoadError */
export function runTool(
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): string {
  const env = { ...process.env, ...environment }
  const { status, stderr, stdout } = spawnSync(command, args, { env, encoding: 'utf8' })
  if (status !== 0) throw new LoadError(`${command} ${args.join(' ')}: ${stderr}${stdout}`)
  return stdout
}
