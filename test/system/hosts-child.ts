/**
 * Sockets of stations on several hosts, and packets that no agent has sent:
 *
 *   hear PORT GROUP                       answers each datagram; hears the multicast group, too
 *   call ADDRESS PORT                     sends a datagram, to all who hear it; prints who answered
 *   forge ADDRESS KEY MAC                 a broadcast frame in a VXLAN header with that key
 */
import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'

const patienceMs = 1500
const [what = '', ...rest] = process.argv.slice(2)
const ready = (): boolean => process.stdout.write('ready\n')

function hear(port: number, group: string): void {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  socket.on('message', (_, { address, port: from }) => socket.send('here', from, address))
  socket.bind(port, () => {
    socket.addMembership(group)
    ready()
  })
}

async function call(address: string, port: number): Promise<void> {
  const socket = createSocket('udp4')
  const heard = new Set<string>()
  socket.on('message', (_, from) => heard.add(from.address))
  socket.bind(0, () => {
    socket.setBroadcast(true)
    socket.setMulticastTTL(4)
    socket.send('who', port, address)
  })
  await sleep(patienceMs)
  process.stdout.write(`${[...heard].sort().join(' ')}\n`)
  process.exit(0)
}

/** VXLAN, RFC 7348: flags, key; then Ethernet with an EtherType for experiments (RFC 5342). */
function forge(address: string, key: number, mac: string): void {
  const header = Buffer.from([8, 0, 0, 0, key >>> 16, (key >>> 8) & 0xff, key & 0xff, 0])
  const source = Buffer.from(mac.replaceAll(':', ''), 'hex')
  const type = Buffer.from([0x88, 0xb5])
  const frame = Buffer.concat([Buffer.alloc(6, 0xff), source, type, Buffer.alloc(46, 0x2a)])
  const socket = createSocket('udp4')
  socket.send(Buffer.concat([header, frame]), 4789, address, () => socket.close())
}

if (what === 'hear') hear(Number(rest[0]), rest[1] ?? '')
else if (what === 'call') await call(rest[0] ?? '', Number(rest[1]))
else forge(rest[0] ?? '', Number(rest[1]), rest[2] ?? '')
