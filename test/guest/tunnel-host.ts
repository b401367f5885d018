/**
 * One host of `tunnel-ovs.test.ts`, run in its network namespace; it is told what to do line by
 * line, and says when it is done. `KIND run` takes in a tunnel interface and the station's veth and
 * installs the flows between them. `KIND listen` installs none of the way back, and says the key of
 * the first packet out of the tunnel. It ends with its input; the kernel goes on.
 */
import { createInterface } from 'node:readline'
import { NetlinkSocket } from '../../datapath/netlink.ts'
import { openOvsDatapath } from '../../datapath/ovs/ovs-datapath.ts'
import { routeProtocol } from '../../datapath/rtnetlink.ts'
import { ensureTunnelDevice, type TunnelDevice } from '../../datapath/tunnel-device.ts'
import { formatKey, parseActions, parseKey } from '../../packet/text.ts'

const [local, remote] = process.argv.slice(2)
const kinds: readonly TunnelDevice['kind'][] = ['vxlan', 'gre', 'geneve']
const links = new NetlinkSocket(routeProtocol)
const datapath = openOvsDatapath()
const station = datapath.addPort('station').number

/** The vport of the kind's tunnel interface, which is the only one then. */
function takeIn(kind: TunnelDevice['kind']): number {
  for (const { id } of [...datapath.flows()]) datapath.remove(id)
  for (const port of datapath.ports()) if (port.number !== station) datapath.removePort(port.number)
  const name = `mn-${kind}`
  ensureTunnelDevice(links, { kind, name })
  // A second time it is the one there is.
  ensureTunnelDevice(links, { kind, name })
  const tunnel = datapath.addPort(name).number
  datapath.install(
    parseKey(`in_port(${station})`),
    parseActions(`set(tunnel(tun_id=0xabcd,src=${local},dst=${remote})),${tunnel}`),
  )
  return tunnel
}

function listen(tunnel: number): string {
  const end = Date.now() + 30_000
  let seen: string | undefined
  while (seen === undefined && Date.now() < end) {
    datapath.wait(200)
    datapath.receive(100, ({ key, keyComplete }) => {
      if (key[0] === tunnel) seen ??= `${formatKey(key)} ${keyComplete ? 'whole' : 'in part'}`
    })
  }
  return seen ?? 'nothing came'
}

console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  const [word, mode] = line.split(' ')
  const tunnel = takeIn(kinds.find((kind) => kind === word) ?? 'vxlan')
  if (mode === 'listen') {
    console.log('listening')
    console.log(listen(tunnel))
  } else {
    datapath.install(
      parseKey(`tunnel(tun_id=0xabcd,src=${remote}),in_port(${tunnel})`),
      parseActions(`${station}`),
    )
    console.log('forwarding')
  }
}
datapath.close()
links.close()
