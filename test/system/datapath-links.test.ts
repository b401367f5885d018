import test from 'ava'
import { Assembler } from '../../datapath/ebpf/assembler.ts'
import {
  attach,
  detach,
  findAttached,
  type Loaded,
  programName,
  promote,
} from '../../datapath/ebpf/attach.ts'
import { describeProgramFd, loadProgram } from '../../datapath/ebpf/bpf.ts'
import { listTcx } from '../../datapath/ebpf/tcx.ts'
import { LinkError } from '../../datapath/link.ts'
import { NetlinkError, NetlinkSocket } from '../../datapath/netlink.ts'
import { openLinks, routeProtocol } from '../../datapath/rtnetlink.ts'
import { ensureClsact, findFilter, removeFilter, setFilter } from '../../datapath/tc.ts'
import { enterFreshNetwork } from './tap-port.ts'

enterFreshNetwork()
const links = openLinks()

test.serial('a veth pair is made, found, listed and removed', (t) => {
  links.createVeth({
    name: 'mdv0',
    peerName: 'mdv1',
    mtu: 1400,
    mac: '02:00:00:00:00:01',
    peerMac: '02:00:00:00:00:02',
  })
  const [link, peer] = [links.find('mdv0'), links.find('mdv1')]
  t.like(link, { name: 'mdv0', mac: '02:00:00:00:00:01', mtu: 1400, up: true, kind: 'veth' })
  t.like(peer, { name: 'mdv1', mac: '02:00:00:00:00:02', mtu: 1400, up: false, kind: 'veth' })
  t.is(link?.peerIndex, peer?.index)
  t.is(peer?.peerIndex, link?.index)
  t.false(link?.peerElsewhere)
  t.deepEqual(
    links
      .list()
      .map(({ name }) => name)
      .filter((name) => name.startsWith('mdv'))
      .toSorted(),
    ['mdv0', 'mdv1'],
  )
  links.remove('mdv0')
  t.is(links.find('mdv1'), undefined)
  t.notThrows(() => links.remove('mdv0'))
})

test.serial('what exists is not made twice', (t) => {
  const request = { name: 'mdt0', peerName: 'mdt1', mtu: 1500 }
  links.createVeth(request)
  const error = t.throws(() => links.createVeth(request), { instanceOf: LinkError })
  t.is(error?.code, 'EEXIST')
  links.remove('mdt0')
})

test.serial('what does not exist is not found, whatever its name', (t) => {
  for (const name of ['mdnone', 'a-name-longer-than-any-interface', 'with/slash', '']) {
    t.is(links.find(name), undefined, name)
    t.throws(() => links.setUp(name), { instanceOf: LinkError }, name)
  }
})

test.serial('a wrong value is refused in the words of the kernel', (t) => {
  links.createVeth({ name: 'mdm0', peerName: 'mdm1', mtu: 1500 })
  const error = t.throws(() => links.setMtu('mdm0', 1), { instanceOf: LinkError })
  t.is(error?.code, 'EINVAL')
  t.regex(error?.message ?? '', /set MTU 1 of mdm0: EINVAL: mtu less than device minimum/)
  links.setMtu('mdm0', 9000)
  t.is(links.find('mdm0')?.mtu, 9000)
  links.remove('mdm0')
})

test.serial('addresses are added once and listed', (t) => {
  links.createVeth({ name: 'mda0', peerName: 'mda1', mtu: 1500 })
  links.addAddress('mda0', '10.99.0.1/24')
  links.addAddress('mda0', '10.99.0.1/24')
  links.addAddress('mda0', '10.99.1.1/30')
  t.deepEqual(links.addresses(), [
    { interface: 'mda0', cidr: '10.99.0.1/24' },
    { interface: 'mda0', cidr: '10.99.1.1/30' },
  ])
  t.throws(() => links.addAddress('mdnone', '10.0.0.1/8'), { instanceOf: LinkError })
  t.throws(() => links.addAddress('mda0', 'nonsense'), { instanceOf: LinkError })
  links.remove('mda0')
  t.deepEqual(links.addresses(), [])
})

test.serial('routes are set, replaced, listed and removed', (t) => {
  links.createVeth({ name: 'mdr0', peerName: 'mdr1', mtu: 1500 })
  links.setUp('mdr1')
  links.addAddress('mdr0', '10.99.0.1/24')
  const connected = { dst: '10.99.0.0/24', gateway: undefined, interface: 'mdr0' }
  const via = { dst: '10.98.0.0/16', gateway: '10.99.0.2', interface: 'mdr0' }
  const direct = { dst: '10.97.0.0/24', gateway: undefined, interface: 'mdr0' }
  const fallback = { dst: '0.0.0.0/0', gateway: '10.99.0.3', interface: 'mdr0' }
  links.setRoute({ ...via, gateway: '10.99.0.9' })
  for (const route of [via, direct, fallback]) links.setRoute(route)
  const byDst = (routes: readonly { dst: string }[]) =>
    routes.toSorted((x, y) => x.dst.localeCompare(y.dst))
  t.deepEqual(byDst(links.routes()), byDst([connected, via, direct, fallback]))
  links.removeRoute(via)
  links.removeRoute(via)
  links.removeRoute({ ...direct, interface: undefined })
  links.removeRoute({ ...direct, interface: 'mdnone' })
  t.deepEqual(byDst(links.routes()), byDst([connected, fallback]))
  links.remove('mdr0')
})

test.serial('a program is attached to an interface, replaced, found and removed', (t) => {
  const socket = new NetlinkSocket(routeProtocol)
  links.createVeth({ name: 'mdf0', peerName: 'mdf1', mtu: 1500 })
  const index = links.find('mdf0')?.index ?? 0
  const load = (result: number): number =>
    loadProgram('nothing', new Assembler().mov(0, result).exit().finish(), {})
  const [first, second] = [load(0), load(2)]
  t.is(findFilter(socket, index, 'ingress'), undefined)
  t.throws(() => setFilter(socket, index, 'ingress', 'mdtest', first), {
    instanceOf: NetlinkError,
  })
  ensureClsact(socket, index)
  ensureClsact(socket, index)
  setFilter(socket, index, 'ingress', 'mdtest', first)
  const before = findFilter(socket, index, 'ingress')
  t.is(before?.name, 'mdtest')
  t.is(findFilter(socket, index, 'egress'), undefined)
  setFilter(socket, index, 'ingress', 'mdtest', second)
  t.not(findFilter(socket, index, 'ingress')?.programId, before?.programId)
  removeFilter(socket, index, 'ingress')
  removeFilter(socket, index, 'ingress')
  removeFilter(socket, 999_999, 'ingress')
  t.is(findFilter(socket, index, 'ingress'), undefined)
  links.remove('mdf0')
  socket.close()
})

test.serial('an interface of ours runs its program by tcx where the kernel has it', (t) => {
  const socket = new NetlinkSocket(routeProtocol)
  const own = 'mn00000000000'
  links.createVeth({ name: own, peerName: 'mdg1', mtu: 1500 })
  const load = (result: number): Loaded => {
    const code = new Assembler().mov(0, result).exit().finish()
    const fd = loadProgram(programName('mdtest', String(result)), code, {})
    return { fd, id: describeProgramFd(fd).id }
  }
  const [first, second] = [load(0), load(2)]
  for (const [interfaceName, by] of [
    [own, listTcx(1, 'ingress') === undefined ? 'filter' : 'tcx'],
    ['mdg1', 'filter'],
  ] as const) {
    const index = links.find(interfaceName)?.index ?? 0
    const place = { index, interfaceName, direction: 'ingress' } as const
    attach(socket, place, 'mdtest', first)
    t.deepEqual(findAttached(socket, index, 'mdtest'), { programId: first.id, by: 'filter' })
    t.is(promote(socket, place, 'mdtest', first), by === 'tcx')
    t.false(promote(socket, place, 'mdtest', first))
    // Each way as often as an interface can run programs at once, and more.
    for (const program of new Array(70).fill([first, second]).flat()) {
      attach(socket, place, 'mdtest', program)
      t.deepEqual(findAttached(socket, index, 'mdtest'), { programId: program.id, by })
    }
    t.is(listTcx(index, 'ingress')?.length ?? 0, by === 'tcx' ? 1 : 0)
    t.is(findFilter(socket, index, 'ingress')?.name, by === 'tcx' ? undefined : 'mdtest')
    t.is(findAttached(socket, index, 'mdother'), undefined)
    detach(socket, index, 'mdother')
    t.truthy(findAttached(socket, index, 'mdtest'))
    detach(socket, index, 'mdtest')
    detach(socket, index, 'mdtest')
    t.is(findAttached(socket, index, 'mdtest'), undefined)
  }
  links.remove(own)
  socket.close()
})

test.serial(
  'an interface of ours that runs a filter keeps to it until it is promoted, and then has no other',
  (t) => {
    const socket = new NetlinkSocket(routeProtocol)
    const interfaceName = 'mn00000000000'
    links.createVeth({ name: interfaceName, peerName: 'mdg1', mtu: 1500 })
    const index = links.find(interfaceName)?.index ?? 0
    const fd = loadProgram(programName('mdtest', ''), new Assembler().mov(0, 0).exit().finish(), {})
    ensureClsact(socket, index)
    setFilter(socket, index, 'ingress', 'mdtest', fd)
    const program = { fd, id: describeProgramFd(fd).id }
    attach(socket, { index, interfaceName, direction: 'ingress' }, 'mdtest', program)
    t.deepEqual(findAttached(socket, index, 'mdtest'), { programId: program.id, by: 'filter' })
    t.deepEqual(listTcx(index, 'ingress') ?? [], [])
    // An agent that ended between the two steps leaves both: the next keeps one, and takes away both.
    if (promote(socket, { index, interfaceName, direction: 'ingress' }, 'mdtest', program)) {
      setFilter(socket, index, 'ingress', 'mdtest', fd)
      attach(socket, { index, interfaceName, direction: 'ingress' }, 'mdtest', program)
      t.is(findFilter(socket, index, 'ingress'), undefined)
      t.is(listTcx(index, 'ingress')?.length, 1)
      setFilter(socket, index, 'ingress', 'mdtest', fd)
    }
    detach(socket, index, 'mdtest')
    t.is(findAttached(socket, index, 'mdtest'), undefined)
    links.remove(interfaceName)
    socket.close()
  },
)
