/** The namespaces of a machine for tests: how they are made, and what is left to remove after them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, openSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'

export const hostAddress = '192.0.2.1'
export const outsideAddress = '192.0.2.2'

/** The machine did not do what a test needs; the message carries the command's own words. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code = 'ENGINE'
}

/** A folder with another release's Docker Engine and all that it needs, to run instead. */
const otherRoot = process.env.MIDONET_ENGINE_ROOT ?? ''
/** Where the managed plugin is, which that engine is to see. */
const built = new URL('../../', import.meta.url).pathname

/** Runs as the first process: makes the machine, says so, and waits for the end of its input. */
const setUp = String.raw`
set -e
dir=$1
mount --make-rprivate /
mkdir -p $dir/cgroup $dir/docker $dir/midonet
mount --rbind /sys/fs/cgroup $dir/cgroup
mount -t sysfs sysfs /sys
mount --rbind $dir/cgroup /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock /var/lib/docker /var/lib/midonet
mount --bind $dir/docker /var/lib/docker
mount --bind $dir/midonet /var/lib/midonet
if [ -n "$2" ]; then
  mount --bind $2 $2
  [ -L $2/var/run ] || { rm -rf $2/var/run; ln -s /run $2/var/run; }
  for folder in /proc /sys /dev /run /tmp /var/lib/docker /var/lib/midonet $3; do
    mkdir -p $2$folder
    mount --rbind $folder $2$folder
  done
  # Docker gives them to managed plugins.
  for file in hosts resolv.conf; do [ -e $2/etc/$file ] || touch $2/etc/$file; done
  mkdir -p $2/before
  printf '#!/bin/sh\nexec chroot %s /usr/bin/docker "$@"\n' $2 >$dir/run-docker
  # What runs containers must not be in a chroot: they would find their way out of it.
  cat >$dir/run-dockerd <<END
#!/bin/sh
exec unshare --mount --propagation private sh -c 'cd $2 && pivot_root . before && cd / &&
exec /usr/bin/busybox sh -c "/usr/bin/busybox umount -l /before && exec /usr/sbin/dockerd \\"\\\$@\\"" \
dockerd "\$@"' dockerd "\$@"
END
  chmod 755 $dir/run-docker $dir/run-dockerd
  mount --bind $dir/run-docker /usr/bin/docker
  mount --bind $dir/run-dockerd /usr/sbin/dockerd
fi
echo 0 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
ip address add ${hostAddress}/24 dev eth0
ip link set eth0 up
ip route add default via ${outsideAddress}
ip -n outside link set lo up
ip -n outside address add ${outsideAddress}/24 dev eth0
ip -n outside link set eth0 up
echo ready
while read -r _; do :; done
`

/** Starts the first process of a machine, which makes it. @throws EngineError */
export async function startMachine(
  dir: string,
  env: NodeJS.ProcessEnv,
): Promise<{ readonly first: ChildProcess; readonly pid: number }> {
  const own = ['--net', '--mount', '--pid', '--uts']
  const options = [...own, '--fork', '--kill-child', '--mount-proc']
  const words = ['bash', '-c', setUp, 'machine', dir, otherRoot, built]
  const first = spawn('unshare', [...options, ...words], {
    env,
    stdio: ['pipe', 'pipe', openSync(`${dir}/machine.log`, 'a')],
  })
  await new Promise<void>((resolve, reject) => {
    const failed = () =>
      reject(new EngineError(`no machine: ${readFileSync(`${dir}/machine.log`, 'utf8')}`))
    first.once('exit', failed)
    first.stdout?.once('data', () => {
      first.off('exit', failed)
      resolve()
    })
  })
  // unshare has forked; its only child is the machine's first process.
  const children = readFileSync(`/proc/${first.pid}/task/${first.pid}/children`, 'utf8')
  return { first, pid: Number(children.trim()) }
}

/** Containers that were killed leave their control groups behind; false while a task is ending. */
export function removeCgroups(name: string): boolean {
  const roots = ['/sys/fs/cgroup', ...foldersIn('/sys/fs/cgroup')]
  return roots.map((root) => removeFolders(`${root}/${name}`)).every((removed) => removed)
}

function removeFolders(folder: string): boolean {
  for (const child of foldersIn(folder)) removeFolders(child)
  try {
    rmdirSync(folder)
    return true
  } catch {
    return !existsSync(folder)
  }
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `${folder}/${entry.name}`)
  } catch {
    return []
  }
}
