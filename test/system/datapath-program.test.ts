import test from 'ava'
import { DatapathError } from '../../datapath/datapath.ts'
import { Assembler } from '../../datapath/ebpf/assembler.ts'
import { loadProgram, testRun } from '../../datapath/ebpf/bpf.ts'
import { FlowStore } from '../../datapath/ebpf/flow-store.ts'
import { masksMax } from '../../datapath/ebpf/layout.ts'
import { Programs } from '../../datapath/ebpf/load.ts'
import { createMaps } from '../../datapath/ebpf/maps.ts'
import { createKey } from '../../packet/flow-key.ts'
import { exact } from '../datapath/net.ts'
import { captures, fromHex } from '../packet/captures.ts'
import { enterFreshNetwork } from './tap-port.ts'

// A program that is run by hand sees its packet come from the loopback interface.
const loopback = 1
const redirected = 7 // linux/pkt_cls.h: TC_ACT_REDIRECT

enterFreshNetwork()

test('the mask that fitted is tried first, so more masks do not cost the packets of a flow', (t) => {
  const maps = createMaps()
  const program = new Programs('test', maps).port.fd
  const flows = new FlowStore(maps, () => performance.now())
  const install = (match: Parameters<FlowStore['install']>[0]): number =>
    flows.install(match, [{ kind: 'output', port: loopback }], () => undefined)
  const hello = fromHex(captures.udpHello)
  const measure = (): number => {
    const times = Array.from({ length: 7 }, () => testRun(program, hello, 20_000).ns)
    return times.toSorted((x, y) => x - y)[0] ?? 0
  }

  const first = install(exact(hello, loopback))
  t.is(testRun(program, hello).result, redirected)
  const alone = measure()
  flows.remove(first)
  for (let index = 1; index < masksMax; index++) {
    const mask = createKey()
    mask[0] = 0xffff_ffff
    mask[18] = index
    install({ key: createKey().fill(99), mask })
  }
  install(exact(hello, loopback))
  t.is(flows.maskCount, masksMax)
  t.is(testRun(program, hello).result, redirected)
  const among = measure()
  t.log(`${alone} ns alone, ${among} ns among ${masksMax} masks`)
  // Trying them all takes about ten times as long.
  t.true(among < 3 * alone)
})

test('a program that the kernel refuses is reported in the words of the verifier', (t) => {
  const assembler = new Assembler()
  // Reads a register that nothing was written to.
  assembler.mov(0, { r: 3 }).exit()
  const error = t.throws(() => loadProgram('broken', assembler.finish(), {}), {
    instanceOf: DatapathError,
  })
  t.regex(
    error?.message ?? '',
    /loading program broken: EACCES.*verifier says:\s(.|\n)*R3 !read_ok/,
  )
})
