/** Files of the root filesystem: found in a source, copied, and made the same every time. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { isElf, stripElf } from './elf.ts'
import { PackagingError } from './error.ts'

const linksMax = 40

/** The file that `path` names when `root` is `/`; undefined when there is none. */
export function findIn(root: string, path: string): string | undefined {
  let at = resolve('/', path)
  for (let links = 0; links < linksMax; links++) {
    const link = firstLink(root, at)
    if (link === undefined) return existsSync(join(root, at)) ? join(root, at) : undefined
    const target = readlinkSync(join(root, link))
    at = resolve('/', dirname(link), target, `.${at.slice(link.length)}`)
  }
  throw new PackagingError('INVALID', `${path}: too many symbolic links`)
}

/** The first part of a path that is a symbolic link. */
function firstLink(root: string, path: string): string | undefined {
  const parts = path.split('/').slice(1)
  for (let count = 1; count <= parts.length; count++) {
    const part = `/${parts.slice(0, count).join('/')}`
    const stats = lstatSync(join(root, part), { throwIfNoEntry: false })
    if (stats?.isSymbolicLink()) return part
  }
  return undefined
}

/** Copies a file; of programs and libraries what is loaded. */
export function copyFile(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  const bytes = readFileSync(from)
  if (isElf(bytes)) writeFileSync(to, stripElf(bytes))
  else copyFileSync(from, to)
}

/** Copies the files below a folder that `keep` (given the path below it) wants. */
export function copyTree(from: string, to: string, keep: (path: string) => boolean): void {
  for (const path of filesBelow(from)) if (keep(path)) copyFile(join(from, path), join(to, path))
}

/** Paths of all files and symbolic links below a folder, in order. */
export function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()
}

/** Gives everything in a folder, and it, the modes and times that it has every time. */
export function normalize(folder: string, isProgram: (path: string) => boolean): void {
  const seconds = Number(process.env.SOURCE_DATE_EPOCH ?? 0)
  const visit = (path: string) => {
    const at = join(folder, path)
    const stats = lstatSync(at)
    if (stats.isDirectory()) for (const name of readdirSync(at)) visit(join(path, name))
    if (!stats.isSymbolicLink())
      chmodSync(at, stats.isDirectory() || isProgram(path) ? 0o755 : 0o644)
    lutimesSync(at, seconds, seconds)
  }
  visit('')
}
