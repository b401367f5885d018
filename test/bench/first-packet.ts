/**
 * How long the first packet of a connection is under way, from a station to another one of this
 * machine, whose monotonic clock is the same:
 *
 *     node first-packet.js echo ADDRESS…              prints `ready`; answers how long each took
 *     node first-packet.js send FROM COUNT ADDRESS…   to each address in turn, each packet from a
 *                                                     port of its own, the first of them FROM
 *
 * The sender prints a line a packet: its address, the source that the other end saw, nanoseconds.
 */
import { createSocket } from 'node:dgram'

const port = 7100
const patienceMs = 2_000

function echo(addresses: readonly string[]): void {
  let waiting = addresses.length
  for (const address of addresses) {
    const socket = createSocket('udp4')
    socket.on('message', (message, from) => {
      const ns = process.hrtime.bigint() - message.readBigUInt64LE()
      socket.send(`${address} ${from.address} ${ns}`, from.port, from.address)
    })
    socket.bind(port, address, () => {
      if (--waiting === 0) process.stdout.write('ready\n')
    })
  }
}

/** What the other end tells of one packet from `from`, or that nothing came. */
function send(from: number, address: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    const finish = (text: string): void => {
      clearTimeout(timer)
      socket.close(() => resolve(text))
    }
    const timer = setTimeout(() => finish(`${address} silence 0`), patienceMs)
    socket.on('message', (message) => finish(String(message)))
    socket.bind(from, () => {
      const sent = Buffer.alloc(32)
      sent.writeBigUInt64LE(process.hrtime.bigint())
      socket.send(sent, port, address)
    })
  })
}

const [what = '', ...words] = process.argv.slice(2)
if (what === 'echo') echo(words)
else {
  const [first = '', count = '', ...addresses] = words
  for (let at = 0; at < Number(count); at++)
    for (const address of addresses) {
      const told = await send(Number(first) + at, address)
      process.stdout.write(`${told}\n`)
      if (told.includes('silence')) process.exit(0)
    }
}
