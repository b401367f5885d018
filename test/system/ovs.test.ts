/** The tests of `test/guest`, in guests with the kernel module of Open vSwitch. */
import test from 'ava'
import { series } from '../vm/kernel.ts'
import { runInVm } from '../vm/vm.ts'

const root = new URL('../../..', import.meta.url).pathname
const built = new URL('..', import.meta.url).pathname.slice(root.length)
const timeoutS = 840

interface GuestFile {
  readonly name: string
  /** How many tests it has at least: none must get lost on the way here. */
  readonly tests: number
}

const files: readonly GuestFile[] = [
  { name: 'datapath-ovs', tests: 44 },
  { name: 'datapath-ovs-kernel', tests: 9 },
  { name: 'agent-ovs', tests: 5 },
  { name: 'policy-ovs', tests: 7 },
  // Many seconds of waiting in an emulated machine: the same cases run on eBPF each time.
  ...(process.env.MIDONET_LONG === undefined ? [] : [{ name: 'service-ovs', tests: 4 }]),
]

for (const kernel of series)
  for (const { name, tests } of files)
    test.serial(`${name} on Linux ${kernel}`, async (t) => {
      t.timeout(timeoutS * 1000)
      const command = `node node_modules/ava/entrypoints/cli.mjs --tap --serial --timeout=10m ${built}guest/${name}.test.js`
      const env = { BUILD: built.split('/')[0] ?? 'build' }
      const { status, output } = await runInVm(command, { kernel, timeoutS, env })
      const passed = output.match(/^ok \d+/gm)?.length ?? 0
      if (status !== 0) t.log(output)
      t.is(status, 0)
      t.true(passed >= tests, `${passed} tests passed`)
    })
