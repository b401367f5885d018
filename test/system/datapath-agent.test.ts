import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import test from 'ava'
import { findAttached } from '../../datapath/ebpf/attach.ts'
import { type EbpfDatapath, openEbpfDatapath } from '../../datapath/ebpf/ebpf-datapath.ts'
import { listTcx } from '../../datapath/ebpf/tcx.ts'
import { NetlinkSocket } from '../../datapath/netlink.ts'
import { openLinks, routeProtocol } from '../../datapath/rtnetlink.ts'
import { interfaceIndex } from '../../datapath/syscall.ts'
import { createKey } from '../../packet/flow-key.ts'
import { captures, fromHex, hexOf } from '../packet/captures.ts'
import { enterFreshNetwork, TapPort } from './tap-port.ts'

const hello = fromHex(captures.udpHello)
/** The name of an interface of ours: where the kernel has tcx, that runs its program. */
const own = 'mn0000000000a'
const child = new URL('./datapath-child.js', import.meta.url).pathname

// Child processes are started by this thread, so they are in its network namespace.
enterFreshNetwork()
const links = openLinks()

/** The first line that a process prints. */
async function firstLine(agent: ChildProcess): Promise<string> {
  if (agent.stdout === null) return ''
  const [line] = await once(agent.stdout, 'data')
  return String(line).trim()
}

test.serial('traffic outlives an agent that is killed, and the next one takes over', async (t) => {
  const [tapA, tapB] = [new TapPort(own), new TapPort('mdkb')]
  const agent = spawn(process.execPath, [child, own, 'mdkb'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.is(await firstLine(agent), 'ready')
  const ended = once(agent, 'exit')
  const got: string[] = []
  const exchange = (): void => {
    tapA.send(hello)
    got.push(...tapB.take().map(({ frame }) => hexOf(frame)))
  }
  exchange()
  agent.kill('SIGKILL')
  await ended
  for (let count = 0; count < 10; count++) exchange()

  const before = [own, 'mdkb'].map(programOf)
  t.is(attachedTo(own)?.by, listTcx(1, 'ingress') === undefined ? 'filter' : 'tcx')
  const datapath = openEbpfDatapath({ promoteAfterMs: 0 })
  t.deepEqual([own, 'mdkb'].map(programOf), before, 'the verifier is not asked again')
  exchange()
  t.deepEqual(got, new Array(12).fill(captures.udpHello))
  t.deepEqual(
    datapath
      .ports()
      .map(({ name }) => name)
      .toSorted(),
    ['mdkb', own],
  )
  const [flow, ...others] = [...datapath.flows()]
  t.deepEqual(others, [])
  t.is(flow?.stats.packets, 12)
  t.is(
    datapath.receive(10, () => {}),
    0,
  )
  tapB.send(hello)
  t.is(
    datapath.receive(10, () => {}),
    1,
  )
  datapath.remove(flow?.id ?? -1)
  tapA.send(hello)
  t.is(
    datapath.receive(10, () => {}),
    1,
  )
  close(datapath)
  tapA.close()
  tapB.close()
})

test.serial('without the right to load programs the error says which', (t) => {
  // Still root, so that it can read its own files wherever they lie.
  const args = ['--bounding-set', '-all', process.execPath, child, 'lo', 'lo']
  const { stdout } = spawnSync('setpriv', args, { encoding: 'utf8' })
  t.regex(stdout, /^(EPERM|EACCES) .*run as root with CAP_BPF and CAP_NET_ADMIN/)
})

test.serial('without the tun device the error says so', (t) => {
  const script = `mount -t tmpfs none /dev/net && exec '${process.execPath}' '${child}' lo lo`
  const { stdout } = spawnSync('unshare', ['--mount', 'sh', '-c', script], { encoding: 'utf8' })
  t.regex(stdout, /^ENOENT \/dev\/net\/tun: .*load the tun module/)
})

/** Packets that a link has received and sent, as its own network namespace counts them. */
function traffic(name: string, prefix: readonly string[]): { rx: number; tx: number } {
  const command = [...prefix, 'ip', '-s', '-j', 'link', 'show', 'dev', name]
  const { stdout } = spawnSync(command[0] ?? '', command.slice(1), { encoding: 'utf8' })
  const [link] = JSON.parse(stdout)
  return { rx: link.stats64.rx.packets, tx: link.stats64.tx.packets }
}

test.serial(
  'a peer in another network namespace is served directly, once it is there',
  async (t) => {
    const tapA = new TapPort('mdpa')
    // The address that the packets of this test are for.
    const peerMac = '02:00:00:00:00:0b'
    links.createVeth({ name: 'mdpv', peerName: 'mdpw', mtu: 1500, peerMac })
    links.setUp('mdpw')
    const datapath = openEbpfDatapath()
    const match = { key: createKey(), mask: createKey() }
    match.key[0] = datapath.addPort('mdpa').number
    match.mask[0] = 0xffff_ffff
    const port = datapath.addPort('mdpv').number
    const install = (): number => datapath.install(match, [{ kind: 'output', port }])
    install()
    tapA.send(hello)
    const here = traffic('mdpv', [])
    t.is(here.tx, 1, 'through the port itself while the peer is here')

    const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo there; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await firstLine(holder)
    const inside = ['nsenter', `--net=/proc/${holder.pid}/ns/net`]
    spawnSync('ip', ['link', 'set', 'mdpw', 'netns', String(holder.pid)])
    spawnSync('nsenter', [...inside.slice(1), 'ip', 'link', 'set', 'mdpw', 'up'])
    tapA.send(hello)
    t.is(traffic('mdpw', inside).rx - here.tx, 1, 'the old flow still works')

    // Once up, the peer says something of its own; so its address becomes known.
    let heard = 0
    for (let left = 100; left > 0 && heard === 0; left--) {
      datapath.wait(100)
      heard = datapath.receive(100, () => {})
    }
    t.true(heard > 0)
    // Where a port's peer is, is asked for again after a tenth of a second only.
    await new Promise((resolve) => setTimeout(resolve, 150))

    // Another flow to the same port finds that the peer has moved; the first flow profits too.
    const other = { key: match.key.slice(), mask: match.mask }
    other.key[0] = 999
    datapath.install(other, [{ kind: 'output', port }])
    const [before, beforeInside] = [traffic('mdpv', []), traffic('mdpw', inside)]
    tapA.send(hello)
    t.is(traffic('mdpw', inside).rx - beforeInside.rx, 1)
    t.is(traffic('mdpv', []).tx - before.tx, 0, 'past the port itself')
    t.is([...datapath.flows()].length, 2)

    // A packet for somebody else goes to the port as any does: the peer has to see that it is not its.
    const foreign = Uint8Array.from(hello)
    foreign[5] = 0x77
    const [between, betweenInside] = [traffic('mdpv', []), traffic('mdpw', inside)]
    tapA.send(foreign)
    t.is(traffic('mdpw', inside).rx - betweenInside.rx, 1)
    t.is(traffic('mdpv', []).tx - between.tx, 1)

    close(datapath)
    holder.kill()
    tapA.close()
    links.remove('mdpv')
  },
)

/** The number of the program that an interface runs. */
function programOf(name: string): number | undefined {
  return attachedTo(name)?.programId
}

function attachedTo(name: string) {
  const socket = new NetlinkSocket(routeProtocol)
  const found = findAttached(socket, interfaceIndex(name), 'midonet')
  socket.close()
  return found
}

/** Leaves nothing in the network namespace for the next test. */
function close(datapath: EbpfDatapath): void {
  for (const { id } of [...datapath.flows()]) datapath.remove(id)
  for (const { number } of datapath.ports()) datapath.removePort(number)
  datapath.close()
}
