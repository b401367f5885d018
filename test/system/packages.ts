/** The Debian packages the system tests and the benchmark need. */
import { spawnSync } from 'node:child_process'

const packages = [
  'busybox-static',
  'containernetworking-plugins',
  'docker.io',
  'etcd-client',
  'etcd-server',
  'iperf3',
  'iproute2',
  'iptables',
  'nftables',
  'podman',
  'procps',
  'qemu-system-x86',
  'sockperf',
  'tcpdump',
  'util-linux',
  'xz-utils',
]

/** The tests' packages cannot be installed; the message says how to do it by hand. */
export class PackageError extends Error {
  override readonly name = 'PackageError'
  readonly code = 'PACKAGES_MISSING'
}

/**
 * Installs what is missing of these and `more`; does nothing, and needs no network, when all is
 * there.
 */
export function ensurePackages(more: readonly string[] = []): void {
  const missing = [...packages, ...more].filter((name) => !isInstalled(name))
  if (missing.length === 0) return
  console.log(`# installing ${missing.join(' ')}`)
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const install = ['install', '-y', '--no-install-recommends', ...missing]
  for (const args of [['update'], install]) {
    const { status } = spawnSync('apt-get', args, {
      env: environment,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    if (status !== 0)
      throw new PackageError(`apt-get ${args.join(' ')} failed; run it by hand as root`)
  }
}

function isInstalled(name: string): boolean {
  const { stdout } = spawnSync('dpkg-query', ['-s', name], { encoding: 'utf8' })
  return stdout?.includes('\nStatus: install ok installed\n') ?? false
}
