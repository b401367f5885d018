/** Debian's kernels for the test bed: fetched from the distribution once, kept in `build/vm`. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** The series there are. */
export const series = ['6.1', '6.12'] as const
export type Series = (typeof series)[number]

/** A kernel as it lies on disk. */
export interface Kernel {
  /** As `uname -r` says it. */
  readonly release: string
  readonly image: string
  /** What becomes /lib/modules/<release> in the guest. */
  readonly modules: string
}

/** The bed cannot be made here; the message says what is missing. */
export class BedError extends Error {
  override readonly name = 'BedError'
  readonly code = 'BED_FAILED'
}

/** Runs a command to its end and says what it printed. @throws BedError */
export function run(command: string, args: readonly string[], cwd?: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    ...(cwd === undefined ? {} : { cwd }),
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
  })
  if (status === 0) return stdout
  const reason = error?.message ?? stderr.trim()
  throw new BedError(`${command} ${args.join(' ')}: ${reason}`)
}

/** The kernel of a series; fetches and unpacks its package when it is not there yet. */
export function kernelOf(wanted: Series, folder: string): Kernel {
  const home = join(folder, wanted)
  if (!existsSync(home)) fetchKernel(wanted, home)
  const [release] = readdirSync(join(home, 'lib/modules'))
  if (release === undefined) throw new BedError(`${home} is broken: remove it and try again`)
  const modules = join(home, 'lib/modules', release)
  return { release, image: join(home, `vmlinuz-${release}`), modules }
}

function fetchKernel(wanted: Series, home: string): void {
  const name = newestPackage(wanted)
  const work = `${home}.${process.pid}`
  mkdirSync(join(work, 'root'), { recursive: true })
  try {
    console.error(`vm: fetching ${name}`)
    run('apt-get', ['download', name], work)
    const [file] = readdirSync(work).filter((entry) => entry.endsWith('.deb'))
    run('dpkg-deb', ['-x', file ?? '', 'root'], work)
    const [release = ''] = readdirSync(join(work, 'root/lib/modules'))
    const made = join(work, 'made')
    const modules = join(made, 'lib/modules', release)
    mkdirSync(join(made, 'lib/modules'), { recursive: true })
    renameSync(join(work, `root/boot/vmlinuz-${release}`), join(made, `vmlinuz-${release}`))
    renameSync(join(work, 'root/lib/modules', release), modules)
    unpackModules(modules)
    // Only busybox writes modules.dep where no kmod is installed; the guest reads it by busybox too.
    run('busybox', ['depmod', '-b', made, release])
    renameSync(made, home)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Newer packages hold compressed modules, which busybox cannot load. */
function unpackModules(folder: string): void {
  const packed = run('find', [folder, '-name', '*.ko.xz']).split('\n').filter(Boolean)
  for (let at = 0; at < packed.length; at += 500)
    run('xz', ['-d', '-T0', ...packed.slice(at, at + 500)])
}

/** The package with the highest version; asks the distribution for its list when it is not known. */
function newestPackage(wanted: Series): string {
  const find = (): string | undefined => {
    const pattern = `^linux-image-${wanted.replace('.', '\\.')}\\.[0-9.+a-z-]*-amd64$`
    return run('apt-cache', ['search', '--names-only', pattern])
      .split('\n')
      .map((line) => line.split(' ')[0] ?? '')
      .filter((name) => /^linux-image-[0-9.]+(-\d+|\+deb\d+)-amd64$/.test(name))
      .sort(byNumbers)
      .at(-1)
  }
  let name = find()
  if (name === undefined) {
    run('apt-get', ['update'])
    name = find()
  }
  if (name !== undefined) return name
  throw new BedError(`no package linux-image-${wanted}.*-amd64: it needs Debian 12's sources`)
}

function byNumbers(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

/** Installs the emulator if it is not there. @throws BedError */
export function ensureEmulator(): void {
  const { status } = spawnSync('qemu-system-x86_64', ['--version'])
  if (status === 0) return
  console.error('vm: installing qemu-system-x86')
  run('apt-get', ['update'])
  run('apt-get', ['install', '-y', '--no-install-recommends', 'qemu-system-x86'])
}
