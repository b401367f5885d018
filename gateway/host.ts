/** What the gateway does to the host besides links: commands and kernel settings. */
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { settingFile } from '../datapath/sysctl.ts'

export const limits = { commandMs: 10_000, outputSizeMax: 16 * 1024 * 1024 } as const

const systemPath = '/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin'

export interface CommandResult {
  /** The exit status; undefined when the command does not exist on this host. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command without a shell, `input` on its standard input. Never rejects. */
export type Run = (
  command: string,
  args: readonly string[],
  input?: string,
) => Promise<CommandResult>

/** Kernel settings below /proc/sys. Reading one that is not there gives undefined. */
export interface Settings {
  read(path: string): string | undefined
  write(path: string, value: string): void
}

/** Commands of this host, ended when they take too long. */
export const runCommand: Run = (command, args, input) =>
  new Promise((resolve) => {
    const child = execFile(
      command,
      [...args],
      { timeout: limits.commandMs, maxBuffer: limits.outputSizeMax, env: commandEnvironment() },
      (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr })
        else if (error.code === 'ENOENT') resolve({ code: undefined, stdout, stderr })
        else {
          const code = typeof error.code === 'number' ? error.code : 1
          resolve({ code, stdout, stderr: stderr === '' ? error.message : stderr })
        }
      },
    )
    // A command that ends before it has read its input is judged by its status.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input ?? '')
  })

/** The system's commands before all others: npm puts packages' commands first, one is named nft. */
function commandEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${systemPath}:${process.env.PATH ?? ''}`, LC_ALL: 'C' }
}

/** The kernel's own settings, of the network namespace this process is in. */
export const kernelSettings: Settings = {
  read(path) {
    try {
      return readFileSync(settingFile(path), 'utf8').trim()
    } catch {
      return undefined
    }
  },
  write(path, value) {
    writeFileSync(settingFile(path), value)
  },
}
