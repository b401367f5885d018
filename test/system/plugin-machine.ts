/** What tests of the managed plugin do on a machine: a registry on its loopback, pings counted. */
import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildPlugin } from '../../packaging/build.ts'
import { nativeTarget } from '../../packaging/target.ts'
import { type Engine, EngineError, limits } from './engine.ts'

/** The registry that a machine runs for itself; Docker trusts the loopback without TLS. */
export const registry = '127.0.0.1:5000'

/** The packages that the tests of the managed plugin need besides. */
export const pluginPackages = ['docker-registry'] as const

/** The plugin as `npm run plugin` builds it. */
export function builtPlugin(): ReturnType<typeof buildPlugin> {
  return buildPlugin(nativeTarget())
}

/** A copy of the built plugin that says it is another version. */
export function otherVersion(folder: string, to: string, version: string): string {
  cpSync(folder, to, { recursive: true, verbatimSymlinks: true })
  const about = { name: 'midonet-docker', version, type: 'module' }
  writeFileSync(join(to, 'rootfs/opt/midonet/package.json'), JSON.stringify(about))
  return to
}

/** Starts Debian's registry inside a machine; it keeps its images in the machine's own /run. */
export async function startRegistry(engine: Engine): Promise<void> {
  const config = `version: 0.1
storage: {filesystem: {rootdirectory: /run/registry}}
http: {addr: '${registry}'}
log: {level: warn}
`
  await engine.run('bash', '-c', `cat >/run/registry.yml <<'.'\n${config}.`)
  engine.spawn('docker-registry', 'serve', '/run/registry.yml').stdout?.resume()
  const end = Date.now() + limits.startMs
  const [host, port] = registry.split(':')
  while ((await engine.run('bash', '-c', `</dev/tcp/${host}/${port}`)).code !== 0) {
    if (Date.now() > end) throw new EngineError('the registry does not start')
    await sleep(100)
  }
}

/** What a machine loses with its power: processes, links, rules, and all in /run but its outside. */
const lose = `
for folder in /proc/[0-9]*; do
  number=$(basename $folder)
  [ $number = 1 ] || [ $number = $$ ] || kill -9 $number 2>/dev/null
done
sleep 0.5
awk '$2 ~ "^/(run|var/lib/docker)/" && $2 !~ "^/run/netns" { print $2 }' /proc/mounts | sort -r |
  while read -r path; do umount -l "$path"; done
find /run -mindepth 1 -maxdepth 1 ! -name netns -exec rm -rf {} +
mkdir -p /run/lock
for link in $(ls /sys/class/net); do
  [ $link = lo ] || [ $link = eth0 ] || ip link delete $link 2>/dev/null
done
nft flush ruleset
echo 0 >/proc/sys/net/ipv4/ip_forward
`

/** Switches a machine off, and on until Docker answers; how long that took, in milliseconds. */
export async function reboot(engine: Engine): Promise<number> {
  await engine.stopDocker('KILL')
  const { code, stderr } = await engine.run('bash', '-c', lose)
  if (code !== 0) throw new EngineError(`the machine does not go off: ${stderr}`)
  const begun = performance.now()
  await engine.startDocker()
  return performance.now() - begun
}

/** Pings that one container sends to an address, ten a second, until they are asked for. */
export class Pings {
  #output = ''
  readonly #engine: Engine
  readonly #container: string
  readonly #ended: Promise<unknown>

  constructor(engine: Engine, container: string, address: string) {
    this.#engine = engine
    this.#container = container
    const child = engine.spawn(
      ...['/usr/bin/docker', 'exec', container, 'ping', '-i', '0.1', '-W', '1', address],
    )
    child.stdout?.on('data', (text) => {
      this.#output += String(text)
    })
    this.#ended = new Promise((resolve) => child.once('exit', resolve))
  }

  /** Ends them. How many were sent, and how many were never answered. */
  async end(): Promise<{ readonly sent: number; readonly lost: number }> {
    await this.#engine.docker('exec', this.#container, 'killall', '-INT', 'ping')
    await this.#ended
    const counts = /(\d+) packets transmitted, (\d+) packets received/.exec(this.#output)
    if (counts === null) throw new EngineError(`ping: ${this.#output.slice(-500)}`)
    const [sent, received] = [Number(counts[1]), Number(counts[2])]
    return { sent, lost: sent - received }
  }
}
