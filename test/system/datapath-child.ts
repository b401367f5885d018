/**
 * An agent of a few lines, for tests that kill it or take its rights away: opens the datapath, takes
 * in the interfaces named, forwards all from the first to the second, says so, and stays.
 */
import { DatapathError } from '../../datapath/datapath.ts'
import { openEbpfDatapath } from '../../datapath/ebpf/ebpf-datapath.ts'
import { createKey } from '../../packet/flow-key.ts'

const [from, to] = process.argv.slice(2)

try {
  const datapath = openEbpfDatapath({ promoteAfterMs: 0 })
  const match = { key: createKey(), mask: createKey() }
  match.mask[0] = 0xffff_ffff
  match.key[0] = datapath.addPort(from ?? '').number
  datapath.install(match, [{ kind: 'output', port: datapath.addPort(to ?? '').number }])
  // A port of ours goes over to tcx.
  datapath.wait(0)
  process.stdout.write('ready\n')
  setInterval(() => {}, 60_000)
} catch (error) {
  if (!(error instanceof DatapathError)) throw error
  process.stdout.write(`${error.code} ${error.message}\n`)
}
