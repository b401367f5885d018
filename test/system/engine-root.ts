/**
 * Docker Engines of other Debian releases: their packages and all that they need, unpacked into a
 * folder that `engine.ts` runs them from. Nothing of them is installed. Fetched once, kept in
 * `build-engines` beside the build.
 */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'

const kept = new URL('../../../build-engines/', import.meta.url).pathname
const packages = ['docker.io', 'docker-cli', 'docker-compose', 'iptables', 'ca-certificates']
const tools = ['bash', 'busybox-static', 'coreutils', 'kmod', 'procps']

/** A release's packages could not be fetched or unpacked; the message has the command's words. */
export class RootError extends Error {
  override readonly name = 'RootError'
  readonly code = 'ENGINE_ROOT'
}

/** The folder with the engine of Debian's `suite`. @throws RootError */
export function engineRoot(suite: string): string {
  const root = `${kept}${suite}`
  if (existsSync(root)) return root
  const work = `${kept}.${suite}`
  const fresh = `${work}/root`
  rmSync(work, { recursive: true, force: true })
  mkdirSync(`${work}/lists/partial`, { recursive: true })
  mkdirSync(`${work}/cache/archives/partial`, { recursive: true })
  fetch(suite, work)
  for (const folder of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(`${fresh}/usr/${folder}`, { recursive: true })
    symlinkSync(`usr/${folder}`, `${fresh}/${folder}`)
  }
  for (const file of readdirSync(`${work}/cache/archives`).filter((one) => one.endsWith('.deb'))) {
    const script = 'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" -x --keep-directory-symlink'
    run('sh', ['-c', script, 'sh', `${work}/cache/archives/${file}`, fresh])
  }
  // What the packages' own scripts would do.
  for (const name of ['iptables', 'ip6tables'])
    for (const end of ['', '-save', '-restore']) {
      rmSync(`${fresh}/usr/sbin/${name}${end}`, { force: true })
      symlinkSync('xtables-nft-multi', `${fresh}/usr/sbin/${name}${end}`)
    }
  renameSync(fresh, root)
  rmSync(work, { recursive: true, force: true })
  return root
}

/** With lists and an empty status of its own, so that apt takes the release for the whole system. */
function fetch(suite: string, work: string): void {
  writeFileSync(`${work}/status`, '')
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg'
  const source = `deb [signed-by=${key}] http://deb.debian.org/debian ${suite} main\n`
  writeFileSync(`${work}/sources.list`, source)
  const settings = {
    'Dir::Etc::sourcelist': `${work}/sources.list`,
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': `${work}/lists`,
    'Dir::State::status': `${work}/status`,
    'Dir::Cache': `${work}/cache`,
    'APT::Sandbox::User': 'root',
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";\n`)
  writeFileSync(`${work}/apt.conf`, lines.join(''))
  const env = { APT_CONFIG: `${work}/apt.conf` }
  run('apt-get', ['update'], env)
  const install = ['install', '-y', '--download-only', '--no-install-recommends']
  run('apt-get', [...install, ...packages, ...tools], env)
}

function run(command: string, args: readonly string[], env = {}): void {
  const { status, stderr } = spawnSync(command, args, {
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  if (status !== 0) throw new RootError(`${command} ${args.slice(0, 2).join(' ')}: ${stderr}`)
}
