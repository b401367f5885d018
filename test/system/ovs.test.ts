/** The tests of `test/guest`, in guests with the kernel module of Open vSwitch. */
import test from 'ava'
import { type Series, series } from '../vm/kernel.ts'
import { runInVm } from '../vm/vm.ts'

const root = new URL('../../..', import.meta.url).pathname
const built = new URL('..', import.meta.url).pathname.slice(root.length)
const timeoutS = 840

interface GuestFile {
  /** Files that share a guest, by what they are about. */
  readonly names: readonly string[]
  /** How many tests it has at least: none must get lost on the way here. */
  readonly tests: number
  /** Of both series when not said. */
  readonly kernels?: readonly Series[]
}

/** What does not change with the kernel's release runs on the older one alone, but in long runs. */
const oneKernel: readonly Series[] = process.env.MIDONET_LONG === undefined ? ['6.1'] : series

const files: readonly GuestFile[] = [
  {
    names: ['datapath-ovs', 'datapath-ovs-kernel', 'datapath-ovs-conntrack', 'fairness-ovs'],
    tests: 71,
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
      ]),
]

for (const kernel of series)
  for (const { names, tests } of files.filter(({ kernels = series }) => kernels.includes(kernel)))
    test.serial(`${names.join(', ')} on Linux ${kernel}`, async (t) => {
      t.timeout(timeoutS * 1000)
      const paths = names.map((name) => `${built}guest/${name}.test.js`).join(' ')
      const command = `node node_modules/ava/entrypoints/cli.mjs --tap --serial --timeout=10m ${paths}`
      const env = { BUILD: built.split('/')[0] ?? 'build' }
      const { status, output } = await runInVm(command, { kernel, timeoutS, env })
      const passed = output.match(/^ok \d+/gm)?.length ?? 0
      if (status !== 0) t.log(output)
      t.is(status, 0)
      t.true(passed >= tests, `${passed} tests passed`)
    })
