/** The architectures that the plugin is built for, by each naming scheme that matters here. */
import { PackagingError } from './error.ts'

export interface Target {
  /** Debian's and Docker's name. */
  readonly name: 'amd64' | 'arm64'
  /** Node's and npm's name. */
  readonly node: 'x64' | 'arm64'
  /** Debian's folder of libraries. */
  readonly triplet: string
}

export const targets: readonly Target[] = [
  { name: 'amd64', node: 'x64', triplet: 'x86_64-linux-gnu' },
  { name: 'arm64', node: 'arm64', triplet: 'aarch64-linux-gnu' },
]

/** The target of this machine. @throws PackagingError code `INVALID` */
export function nativeTarget(): Target {
  return findTarget(process.arch)
}

/** By any of its names. @throws PackagingError code `INVALID` */
export function findTarget(name: string): Target {
  const target = targets.find((one) => one.name === name || one.node === name)
  if (target !== undefined) return target
  const known = targets.map((one) => one.name).join(', ')
  throw new PackagingError('INVALID', `no plugin is built for ${name}; known are ${known}`)
}
