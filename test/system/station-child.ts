/**
 * Sockets in a station. A server tells each client the address it saw and how much it got:
 *
 *   serve PORT                           TCP and UDP
 *   tcp | udp ADDRESS PORT BYTES         sends so many bytes, prints the answer, or `silence`
 */
import { createSocket, type Socket } from 'node:dgram'
import { connect, createServer } from 'node:net'

/** An emulated machine takes its time. */
const patienceMs = process.env.MIDONET_VM === undefined ? 5000 : 20_000
const [what = '', ...rest] = process.argv.slice(2)

function serve(port: number): void {
  const tcp = createServer({ allowHalfOpen: true }, (socket) => {
    let length = 0
    socket.on('data', (chunk) => {
      length += chunk.length
    })
    socket.on('end', () =>
      socket.end(`from ${socket.remoteAddress?.replace('::ffff:', '')} got ${length}\n`),
    )
    socket.on('error', () => socket.destroy())
  })
  // Of both families where the kernel has both.
  tcp.once('error', () => tcp.listen(port, '0.0.0.0'))
  tcp.listen(port, '::')
  serveUdp(createSocket({ type: 'udp6', ipv6Only: true }), port)
  const udp = createSocket('udp4')
  udp.once('listening', () => process.stdout.write('ready\n'))
  serveUdp(udp, port)
}

function serveUdp(udp: Socket, port: number): void {
  udp.on('message', (message, { address, port: from }) =>
    udp.send(`from ${address} got ${message.length}\n`, from, address),
  )
  udp.on('error', () => udp.close())
  udp.bind(port)
}

function finish(text: string): never {
  process.stdout.write(text)
  process.exit(0)
}

function ask(address: string, port: number, bytes: number): void {
  setTimeout(() => finish('silence\n'), patienceMs)
  const payload = Buffer.alloc(bytes, 1)
  const failed = (error: Error) => finish(`error ${error.message}\n`)
  if (what === 'udp') {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    socket.on('message', (message) => finish(String(message)))
    socket.on('error', failed)
    socket.send(payload, port, address)
    return
  }
  const socket = connect({ host: address, port })
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk
  })
  socket.on('end', () => finish(answer))
  socket.on('error', failed)
  socket.end(payload)
}

if (what === 'serve') serve(Number(rest[0]))
else ask(rest[0] ?? '', Number(rest[1]), Number(rest[2]))
