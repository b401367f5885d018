/**
 * A TCP connection that goes on for a while:
 *
 *   echo PORT [ADDRESS]           says to each client which address it saw, then all that it says
 *   talk ADDRESS PORT SECONDS     a line every 20 ms; prints `from ADDRESS sent N got N longest MS`
 */
import { connect, createServer } from 'node:net'

const [what = '', ...rest] = process.argv.slice(2)
const everyMs = 20
const patienceMs = 5_000

function echo(port: number, address: string): void {
  const server = createServer((socket) => {
    socket.write(`from ${socket.remoteAddress?.replace('::ffff:', '')}\n`)
    socket.pipe(socket)
    socket.on('error', () => socket.destroy())
  })
  server.listen(port, address, () => process.stdout.write('ready\n'))
}

function talk(address: string, port: number, seconds: number): void {
  const socket = connect({ host: address, port, noDelay: true })
  const endMs = performance.now() + seconds * 1000
  let [sent, got, longest, lastMs] = [0, -1, 0, 0]
  let [first, text] = ['', '']
  const finish = (why = '') => {
    process.stdout.write(`${first}sent ${sent} got ${got} longest ${Math.round(longest)} ${why}\n`)
    process.exit(0)
  }
  socket.on('error', ({ message }) => finish(message))
  socket.on('close', () => finish('closed'))
  socket.on('data', (chunk) => {
    text += chunk
    const lines = text.split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) if (line.startsWith('from')) first = `${line} `
    got += lines.length
    if (lastMs > 0) longest = Math.max(longest, performance.now() - lastMs)
    lastMs = performance.now()
  })
  setTimeout(() => finish('silence'), seconds * 1000 + patienceMs)
  const timer = setInterval(() => {
    if (performance.now() < endMs) socket.write(`${++sent}\n`)
    else if (got === sent) finish()
    else if (performance.now() > endMs + patienceMs / 2) {
      clearInterval(timer)
      finish('lost')
    }
  }, everyMs)
}

if (what === 'echo') echo(Number(rest[0]), rest[1] ?? '::')
else talk(rest[0] ?? '', Number(rest[1]), Number(rest[2]))
