/**
 * The plugin's root filesystem: Node, the agent with its packages, the commands that the agent runs
 * (nft, iptables), and the libraries of all these. No shell, no package manager, no setuid program.
 */
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { run } from './command.ts'
import { isElf, readElf } from './elf.ts'
import { PackagingError } from './error.ts'
import type { Source } from './source.ts'
import type { Target } from './target.ts'
import { copyFile, copyTree, filesBelow, findIn, normalize } from './tree.ts'

export interface RootfsSettings {
  readonly target: Target
  readonly source: Source
  /** The working tree, with package.json and its lock. */
  readonly project: string
  /** Where the compiled agent is. */
  readonly built: string
  /** Where production packages were installed for the target. */
  readonly modules: string
}

const home = 'opt/midonet'

/** Programs, each with the names it is called by. */
const programs: Readonly<Record<string, readonly string[]>> = {
  'usr/sbin/nft': [],
  'usr/sbin/xtables-nft-multi': ['iptables', 'ip6tables'],
  'usr/sbin/xtables-legacy-multi': ['iptables-legacy', 'ip6tables-legacy'],
}

/** Bind mounts of plugin.json and of Docker need their places. */
const folders = ['dev', 'etc', 'host', 'proc', 'run/docker/plugins', 'sys', 'tmp', 'var/lib']

/** Makes the root filesystem at `to` anew. @throws PackagingError */
export function makeRootfs(to: string, settings: RootfsSettings): void {
  rmSync(to, { recursive: true, force: true })
  for (const folder of folders) mkdirSync(join(to, folder), { recursive: true })
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(to, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(to, name))
  }
  symlinkSync('../run', join(to, 'var/run'))
  writeFileSync(join(to, 'etc/nsswitch.conf'), 'hosts: files dns\n')
  writeFileSync(join(to, 'etc/passwd'), 'root:x:0:0:root:/:/usr/sbin/nologin\n')
  putPrograms(to, settings)
  putAgent(to, settings)
  putLibraries(to, settings)
  normalize(to, (path) => isProgram(path))
}

function isProgram(path: string): boolean {
  return /^usr\/s?bin\/|\/ld-linux[^/]*$/.test(path) || path.endsWith('/cli.js')
}

function putPrograms(to: string, { source }: RootfsSettings): void {
  copyFile(source.node, join(to, 'usr/bin/node'))
  for (const [path, names] of Object.entries(programs)) {
    copyFile(require(source.root, path), join(to, path))
    for (const name of names) symlinkSync(basename(path), join(to, dirname(path), name))
  }
  symlinkSync(`/${home}/build/cli.js`, join(to, 'usr/bin/midonet'))
}

function require(root: string, path: string): string {
  const found = findIn(root, path)
  if (found !== undefined) return found
  throw new PackagingError('MISSING', `/${path} is not there; install nftables and iptables`)
}

function putAgent(to: string, { project, built, modules, target }: RootfsSettings): void {
  const agent = join(to, home)
  const { name, version, license } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'))
  const about = { name, version, license, type: 'module' }
  mkdirSync(agent, { recursive: true })
  writeFileSync(join(agent, 'package.json'), `${JSON.stringify(about, undefined, 2)}\n`)
  copyFile(join(project, 'LICENSE'), join(agent, 'LICENSE'))
  for (const folder of sourceFolders(project))
    copyTree(join(built, folder), join(agent, 'build', folder), (path) => path.endsWith('.js'))
  copyFile(join(built, 'main.js'), join(agent, 'build/main.js'))
  const cli = readFileSync(join(built, 'cli.js'), 'utf8')
  writeFileSync(join(agent, 'build/cli.js'), cli.replace(/^#!.*/, '#!/usr/bin/node'))
  copyTree(modules, join(agent, 'node_modules'), (path) => isUsed(path, target))
}

/** The folders that are compiled and belong to the agent. */
function sourceFolders(project: string): readonly string[] {
  const { include } = JSON.parse(readFileSync(join(project, 'tsconfig.json'), 'utf8'))
  const others = ['*.ts', 'test', 'packaging']
  return include.filter((folder: string) => !others.includes(folder))
}

/** Packages hold sources, types, documents, and prebuilt libraries for every system. */
function isUsed(path: string, { node }: Target): boolean {
  if (/^(\.|@types\/|undici-types\/)/.test(path) || /^koffi\/(vendor|doc)\//.test(path))
    return false
  if (/(^|\/)(test|tests|docs?|examples?|benchmarks?)\//.test(path)) return false
  if (/^zod\/src\//.test(path)) return false
  if (path.endsWith('.node')) return isPrebuiltFor(path, node)
  return /\.(js|cjs|mjs|json|proto)$/.test(path) || /(^|\/)(LICEN[CS]E|NOTICE|COPYING)/i.test(path)
}

function isPrebuiltFor(path: string, node: Target['node']): boolean {
  if (path.includes('musl')) return false
  const [, prebuilds] = /\/prebuilds\/([^/]+)\//.exec(path) ?? []
  if (prebuilds !== undefined) return prebuilds === `linux-${node}`
  return !path.startsWith('@koromix/') || path.startsWith(`@koromix/koffi-linux-${node}/linux_`)
}

/** Copies what the programs and native packages need, and that what these need, and so on. */
function putLibraries(to: string, { source, target }: RootfsSettings): void {
  const libraries = `usr/lib/${target.triplet}`
  const extensions = findIn(source.root, `${libraries}/xtables`)
  if (extensions !== undefined)
    copyTree(extensions, join(to, libraries, 'xtables'), (path) => path.endsWith('.so'))
  const wanted = filesBelow(to).flatMap((path) => neededBy(join(to, path)))
  const done = new Set<string>()
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    if (done.has(name)) continue
    done.add(name)
    const file = findLibrary(source.root, target, name)
    copyFile(file, join(to, libraries, name))
    wanted.push(...neededBy(file))
  }
  const { interpreter } = readElf(readFileSync(join(to, 'usr/bin/node')))
  if (interpreter === undefined)
    throw new PackagingError('INVALID', 'node has no loader; give one that is linked dynamically')
  const loader = join(to, 'usr', interpreter)
  symlinkSync(`/${libraries}/${basename(interpreter)}`, loader)
}

function neededBy(file: string): readonly string[] {
  const looksLike = /\.(node|so[.\d]*)$|\/s?bin\/[^/.]+$|\.so\.\d/.test(file)
  if (!looksLike || file.endsWith('/midonet')) return []
  const bytes = readFileSync(file)
  return isElf(bytes) ? readElf(bytes).needed : []
}

function findLibrary(root: string, { triplet }: Target, name: string): string {
  const places = ['lib', 'usr/lib'].flatMap((lib) => [`${lib}/${triplet}`, lib])
  for (const place of places) {
    const found = findIn(root, `${place}/${name}`)
    if (found !== undefined) return found
  }
  throw new PackagingError('MISSING', `the library ${name} is not there; install its package`)
}

/** Installs production packages for the target below `folder`; again only when the lock changed. */
export function installModules(project: string, folder: string, { node }: Target): string {
  const lock = readFileSync(join(project, 'package-lock.json'), 'utf8')
  const done = join(folder, 'done')
  const modules = join(folder, 'node_modules')
  if (readIfThere(done) === lock) return modules
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const name of ['package.json', 'package-lock.json'])
    copyFile(join(project, name), join(folder, name))
  const system = ['--os=linux', `--cpu=${node}`, '--libc=glibc']
  const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline']
  run('npm', ['ci', '--omit=dev', ...quiet, ...system], { cwd: folder })
  writeFileSync(done, lock)
  return modules
}

function readIfThere(file: string): string | undefined {
  const found = findIn('/', file)
  return found === undefined ? undefined : readFileSync(found, 'utf8')
}
