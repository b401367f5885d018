/**
 * A machine with the kernel module of Open vSwitch, for commands that need one: QEMU boots a Debian
 * kernel by emulation: a host that is itself a guest seldom lends its hardware. The guest's files are the host's, as
 * they are now, below a layer in memory: what a command writes is gone with the guest, except in
 * /run/vm.
 *
 *   host files ──9p, read-only──┐
 *   memory ─────────────────────┴─ overlay: root of the guest      serial port 2: the command's output
 *   build/vm/run-<pid> ──9p────── /run/vm                          serial port 1: the kernel's words
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { busybox, writeInitrd } from './initrd.ts'
import { BedError, ensureEmulator, kernelOf, type Series } from './kernel.ts'

export interface VmOptions {
  readonly kernel?: Series
  /** Counts instructions: one processor whose nanoseconds are instructions. Ratios repeat. */
  readonly icount?: boolean
  readonly processors?: number
  readonly memoryMb?: number
  readonly timeoutS?: number
  /** For the command; besides, the host's PATH is the guest's. */
  readonly env?: Readonly<Record<string, string>>
  /** Gets the command's output, both streams together, as it comes. */
  readonly output?: (chunk: Buffer) => void
}

export interface VmResult {
  /** The command's exit status. */
  readonly status: number
  readonly output: string
  /** What the kernel printed. */
  readonly console: string
  /** Files that the command left in /run/vm, by name. */
  readonly files: (name: string) => string | undefined
}

const root = new URL('../../..', import.meta.url).pathname
const folder = join(root, 'build/vm')

/** Runs a command (as a shell reads it) as root in a fresh guest, in this working tree. */
export async function runInVm(command: string, options: VmOptions = {}): Promise<VmResult> {
  const { kernel: series = '6.1', timeoutS = 600 } = options
  if (root.startsWith('/tmp/'))
    throw new BedError(`the guest has a /tmp of its own and cannot see ${root}: move the tree`)
  ensureEmulator()
  const kernel = kernelOf(series, folder)
  const share = join(folder, `run-${process.pid}-${counter++}`)
  mkdirSync(share, { recursive: true })
  try {
    const initrd = join(share, 'initrd.gz')
    writeInitrd(kernel, initrd)
    writeFileSync(join(share, 'boot.sh'), bootScript(kernel.modules, kernel.release))
    writeFileSync(join(share, 'command.sh'), commandScript(command, options.env ?? {}))
    const args = machine(options, kernel.image, initrd, share)
    const output = await emulate(args, timeoutS, options.output)
    const files = (name: string) => readIfThere(join(share, name))
    const console = files('console.log') ?? ''
    const status = files('status')?.trim()
    if (status === undefined || status === '')
      throw new BedError(
        `the guest ended before the command did (limit ${timeoutS} s):\n${output.slice(-2000)}\n${console.slice(-2000)}`,
      )
    const kept = new Map(['result.json'].map((name) => [name, files(name)]))
    return { status: Number(status), output, console, files: (name) => kept.get(name) }
  } finally {
    rmSync(share, { recursive: true, force: true })
  }
}

let counter = 0

function readIfThere(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}

/** The guest's first process once it has its root. */
function bootScript(modules: string, release: string): string {
  return `export PATH=${quote(process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin')} HOME=/root LC_ALL=C.UTF-8
mkdir -p /lib/modules /dev/pts /dev/shm /run/netns
ln -sfn ${quote(modules)} /lib/modules/${release}
printf '#!/bin/sh\\nexec ${busybox()} modprobe "$@"\\n' > /run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe > /proc/sys/kernel/modprobe
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
${busybox()} modprobe tun
ip link set lo up
stty -F /dev/ttyS1 raw -echo 115200
cd ${quote(root)}
setsid sh /run/vm/command.sh > /dev/ttyS1 2>&1 < /dev/null
echo $? > /run/vm/status
sync
echo o > /proc/sysrq-trigger
sleep 10
`
}

function commandScript(command: string, env: Readonly<Record<string, string>>): string {
  const settings = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}\n`)
  return `${settings.join('')}export MIDONET_VM=1\n${command}\n`
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

function machine(
  { icount = false, processors, memoryMb = 2048 }: VmOptions,
  image: string,
  initrd: string,
  share: string,
): readonly string[] {
  const mount = (id: string, path: string, options: string) => [
    '-fsdev',
    `local,id=${id},path=${path},security_model=none,multidevs=remap${options}`,
    '-device',
    `virtio-9p-pci,fsdev=${id},mount_tag=${id}`,
  ]
  return [
    ...(icount
      ? ['-accel', 'tcg,thread=single', '-icount', 'shift=0,sleep=off', '-smp', '1']
      : ['-accel', 'tcg,thread=multi', '-smp', String(processors ?? 2)]),
    ...['-cpu', 'max', '-m', String(memoryMb), '-display', 'none', '-no-reboot', '-net', 'none'],
    ...['-kernel', image, '-initrd', initrd, '-monitor', 'none'],
    ...['-append', 'console=ttyS0 panic=-1 quiet mitigations=off nokaslr'],
    ...['-serial', `file:${join(share, 'console.log')}`, '-serial', 'stdio'],
    ...mount('root', '/', ',readonly=on'),
    ...mount('share', share, ''),
    ...['-device', 'virtio-rng-pci'],
  ]
}

/** Runs the emulator to its end, or to the limit, and gives back what came out of the port. */
function emulate(
  args: readonly string[],
  timeoutS: number,
  show: ((chunk: Buffer) => void) | undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let late = false
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, timeoutS * 1000)
    const parts: Buffer[] = []
    const errors: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => {
      parts.push(chunk)
      show?.(chunk)
    })
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
    child.on('error', (error) => reject(new BedError(`qemu-system-x86_64: ${error.message}`)))
    child.on('close', (status) => {
      clearTimeout(timer)
      const output = Buffer.concat(parts).toString()
      if (status === 0 || late) resolve(output)
      else reject(new BedError(`qemu-system-x86_64: ${Buffer.concat(errors).toString().trim()}`))
    })
  })
}
