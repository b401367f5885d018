/**
 * The guest's first file system: busybox, the few modules it takes to reach the host's files, and a
 * script that makes those the root, read-only, with a memory file system over them.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { BedError, type Kernel, run } from './kernel.ts'

const modules = ['virtio_pci', '9pnet_virtio', '9p', 'overlay', 'virtio_rng']

const init = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for m in $($b cat /modules/order); do $b insmod /modules/$m; done
options=trans=virtio,version=9p2000.L,msize=262144
$b mount -t 9p -o ro,cache=loose,$options root /lower
$b mount -t tmpfs -o size=70% upper /upper
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /root
for d in proc sys dev; do $b mount --move /$d /root/$d; done
$b mount -t tmpfs run /root/run
$b mkdir -p /root/run/vm
$b mount -t 9p -o $options share /root/run/vm
exec $b switch_root /root /bin/sh /run/vm/boot.sh
`

/** Writes the compressed archive to `file`. */
export function writeInitrd(kernel: Kernel, file: string): void {
  const archive = new Archive()
  for (const folder of ['bin', 'modules', 'proc', 'sys', 'dev', 'lower', 'upper', 'root'])
    archive.folder(folder)
  archive.file('bin/busybox', readFileSync(busybox()))
  const paths = inOrder(kernel)
  for (const path of paths) archive.file(`modules/${basename(path)}`, readFileSync(path))
  archive.file('modules/order', Buffer.from(paths.map((path) => basename(path)).join('\n')))
  archive.file('init', Buffer.from(init))
  writeFileSync(file, gzipSync(archive.finish(), { level: 1 }))
}

export function busybox(): string {
  return run('which', ['busybox']).trim()
}

/** The modules and what they need, in the order to load them; read from modules.dep. */
function inOrder({ modules: folder }: Kernel): readonly string[] {
  const needs = new Map<string, { path: string; before: readonly string[] }>()
  for (const line of readFileSync(join(folder, 'modules.dep'), 'utf8').split('\n')) {
    const [path, rest] = line.split(':')
    if (path === undefined || rest === undefined) continue
    needs.set(nameOf(path), { path, before: rest.trim().split(/\s+/).filter(Boolean) })
  }
  const loaded = new Set<string>()
  const visit = (name: string): void => {
    const entry = needs.get(name)
    if (entry === undefined || loaded.has(entry.path)) return
    for (const path of entry.before) visit(nameOf(path))
    loaded.add(entry.path)
  }
  for (const name of modules) visit(name.replaceAll('-', '_'))
  if (loaded.size === 0) throw new BedError(`${folder}/modules.dep names none of ${modules}`)
  return [...loaded].map((path) => join(folder, path.replace(/^.*?(?=kernel\/)/, '')))
}

function nameOf(path: string): string {
  return basename(path, '.ko').replaceAll('-', '_')
}

/** A cpio archive in the `newc` form: headers of hexadecimal text (kernel: early-userspace). */
class Archive {
  readonly #parts: Uint8Array[] = []
  #inode = 1

  folder(path: string): void {
    this.#add(path, 0o040755, new Uint8Array())
  }

  file(path: string, bytes: Uint8Array): void {
    this.#add(path, 0o100755, bytes)
  }

  finish(): Uint8Array {
    this.#add('TRAILER!!!', 0, new Uint8Array())
    return Buffer.concat(this.#parts)
  }

  #add(path: string, mode: number, bytes: Uint8Array): void {
    const name = Buffer.from(`${path}\0`)
    const numbers = [this.#inode++, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, name.length, 0]
    const header = `070701${numbers.map((n) => n.toString(16).padStart(8, '0')).join('')}`
    for (const part of [Buffer.concat([Buffer.from(header), name]), bytes])
      this.#parts.push(part, new Uint8Array((4 - (part.length & 3)) & 3))
  }
}
