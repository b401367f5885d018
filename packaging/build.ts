/**
 * Builds the managed plugin: `npm run plugin [-- amd64 | arm64]`; without a name both.
 *
 *   build/plugin/            config.json and rootfs/ for this machine's architecture
 *   build/plugin-<arch>/     the same for another one
 *   build/plugin-<arch>.tar  either, in one file that is the same every time
 */
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, rmSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { run } from './command.ts'
import { PackagingError } from './error.ts'
import { installModules, makeRootfs } from './rootfs.ts'
import { openSource } from './source.ts'
import { findTarget, nativeTarget, type Target, targets } from './target.ts'

const project = new URL('../..', import.meta.url).pathname
const built = new URL('..', import.meta.url).pathname

/** What was built for one architecture. */
export interface BuiltPlugin {
  /** For `docker plugin create NAME <folder>`. */
  readonly folder: string
  readonly archive: string
  readonly archiveSize: number
  /** SHA-256 of the archive, in hexadecimal. */
  readonly digest: string
}

/** Builds the plugin for one architecture below `to`. @throws PackagingError */
export function buildPlugin(target: Target, to: string = built): BuiltPlugin {
  const folder = join(to, target === nativeTarget() ? 'plugin' : `plugin-${target.name}`)
  const work = join(built, 'plugin-work', target.name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const modules = installModules(project, join(work, 'npm'), target)
  const source = openSource(target, work)
  makeRootfs(join(folder, 'rootfs'), { target, source, project, built, modules })
  copyFileSync(join(project, 'plugin.json'), join(folder, 'config.json'))
  const seconds = Number(process.env.SOURCE_DATE_EPOCH ?? 0)
  for (const path of ['config.json', '.']) utimesSync(join(folder, path), seconds, seconds)
  const archive = join(to, `plugin-${target.name}.tar`)
  const owners = ['--owner=0', '--group=0', '--numeric-owner', '--format=gnu', '--sort=name']
  run('tar', ['-C', folder, ...owners, '-cf', archive, 'config.json', 'rootfs'])
  const bytes = readFileSync(archive)
  const digest = createHash('sha256').update(bytes).digest('hex')
  return { folder, archive, archiveSize: bytes.length, digest }
}

function main(names: readonly string[]): void {
  for (const target of names.length === 0 ? targets : names.map(findTarget)) {
    const { folder, archive, archiveSize, digest } = buildPlugin(target)
    const size = `${(archiveSize / 1e6).toFixed(1)} MB`
    console.log(`${target.name}: ${folder}\n  ${archive} ${size}\n  sha256 ${digest}`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    main(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof PackagingError)) throw error
    console.error(`plugin: ${error.message}`)
    process.exitCode = 1
  }
}
