/** Commands that the packaging runs, without a shell. */
import { spawnSync } from 'node:child_process'
import { PackagingError } from './error.ts'

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a command and gives its output. @throws PackagingError code `COMMAND` or `MISSING` */
export function run(
  command: string,
  args: readonly string[],
  { cwd, env = {} }: CommandOptions = {},
): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    ...(cwd !== undefined && { cwd }),
    env: { ...process.env, LC_ALL: 'C', ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  if (error !== undefined)
    throw new PackagingError('MISSING', `${command} cannot be run: ${error.message}; install it`)
  if (status === 0) return stdout
  const reason = stderr.trim().split('\n').slice(-5).join('\n')
  throw new PackagingError('COMMAND', `${command} ${args.slice(0, 3).join(' ')} failed:\n${reason}`)
}
