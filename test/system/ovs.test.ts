/**
 * The tests of `test/guest`, and those of this folder that choose their datapath, in guests with the
 * kernel module of Open vSwitch.
 */
import test from 'ava'
import { type Series, series } from '../vm/kernel.ts'
import { runInVm } from '../vm/vm.ts'

const root = new URL('../../..', import.meta.url).pathname
const built = new URL('..', import.meta.url).pathname.slice(root.length)

interface GuestFile {
  /** Files that share a guest, by what they are about. */
  readonly names: readonly string[]
  /** How many tests it has at least: none must get lost on the way here. */
  readonly tests: number
  /** Of both series when not said. */
  readonly kernels?: readonly Series[]
  /** Of `test/guest` when not said. */
  readonly folder?: string
  /** Several agents and etcd want more of the machine than one. */
  readonly memoryMb?: number
  readonly settings?: Readonly<Record<string, string>>
  readonly timeoutS?: number
}

/** What does not change with the kernel's release runs on the older one alone, but in long runs. */
const oneKernel: readonly Series[] = process.env.MIDONET_LONG === undefined ? ['6.1'] : series

const files: readonly GuestFile[] = [
  {
    names: ['datapath-ovs', 'datapath-ovs-kernel', 'datapath-ovs-conntrack', 'fairness-ovs'],
    tests: 73,
  },
  { names: ['agent-ovs', 'hosts-ovs', 'tunnel-ovs'], tests: 12, kernels: oneKernel },
  // Many seconds of waiting in an emulated machine: the same cases run on eBPF each time.
  ...(process.env.MIDONET_LONG === undefined
    ? []
    : [
        { names: ['docker-ovs'], tests: 3, kernels: ['6.1'] as const },
        { names: ['policy-ovs'], tests: 7 },
        { names: ['service-ovs'], tests: 4 },
        { names: ['balance-ovs'], tests: 6 },
        { names: ['six-ovs'], tests: 5 },
        { names: ['l2-ovs'], tests: 7 },
        severalHosts('hosts', 11),
        severalHosts('hosts-state', 4),
        severalHosts('hosts-underlay', 3),
        severalHosts('hosts-narrow', 6),
      ]),
]

/** A file of this folder whose hosts have each an agent. */
function severalHosts(name: string, tests: number): GuestFile {
  return {
    names: [name],
    tests,
    kernels: ['6.1'],
    folder: 'system',
    memoryMb: 3_072,
    settings: { MIDONET_TEST_DATAPATH: 'ovs' },
    timeoutS: 1_100,
  }
}

for (const kernel of series)
  for (const { names, tests, folder = 'guest', memoryMb, settings, timeoutS = 840 } of files.filter(
    ({ kernels = series }) => kernels.includes(kernel),
  ))
    test.serial(`${names.join(', ')} on Linux ${kernel}`, async (t) => {
      t.timeout(timeoutS * 1000)
      const paths = names.map((name) => `${built}${folder}/${name}.test.js`).join(' ')
      const command = `node node_modules/ava/entrypoints/cli.mjs --tap --serial --timeout=10m ${paths}`
      const env = { BUILD: built.split('/')[0] ?? 'build', ...settings }
      const memory = memoryMb === undefined ? {} : { memoryMb }
      const { status, output } = await runInVm(command, { kernel, timeoutS, env, ...memory })
      const passed = output.match(/^ok \d+/gm)?.length ?? 0
      if (status !== 0) t.log(output)
      t.is(status, 0)
      t.true(passed >= tests, `${passed} tests passed`)
    })
