/**
 * Sockets of balanced stations. A server answers whatever it gets by its name:
 *
 *   serve PORT NAME                      TCP and UDP; prints its process's number when it does
 *   poll ADDRESS PORT COUNT              so many TCP connections, one after another: who answered
 *   talk tcp | udp ADDRESS PORT FILE     one socket, a message each 100 ms until the file is there:
 *                                        who answered each, a `-` for nobody, `error CODE` for the end
 *
 * What each of the answers was is printed in one line.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const patienceMs = 3000
/** Messages of one socket, so that none talks for ever. */
const limitTalk = 600
const [what = '', ...rest] = process.argv.slice(2)

function serve(port: number, name: string): void {
  createServer((socket) => {
    socket.on('data', () => socket.write(name))
    socket.on('error', () => socket.destroy())
  }).listen(port, '0.0.0.0')
  const udp = createSocket('udp4')
  udp.on('message', (_, { address, port: from }) => udp.send(name, from, address))
  udp.bind(port, () => process.stdout.write(`${process.pid}\n`))
}

function codeOf(error: unknown): string {
  return `error ${Reflect.get(error instanceof Error ? error : {}, 'code')}`
}

async function openTcp(host: string, port: number): Promise<Socket> {
  const socket = connect({ host, port })
  await once(socket, 'connect', { signal: AbortSignal.timeout(patienceMs) })
  return socket
}

async function pollOne(host: string, port: number): Promise<string> {
  try {
    const socket = await openTcp(host, port)
    socket.write('x')
    const [answer] = await once(socket, 'data', { signal: AbortSignal.timeout(patienceMs) })
    socket.destroy()
    return String(answer)
  } catch (error) {
    return codeOf(error)
  }
}

async function poll(host: string, port: number, count: number): Promise<void> {
  const answers: string[] = []
  for (let left = count; left > 0; left--) answers.push(await pollOne(host, port))
  process.stdout.write(`${answers.join(' ')}\n`)
}

interface Line {
  send(): void
  /** What has been heard since the last time. */
  take(): string
}

async function tcpLine(host: string, port: number): Promise<Line> {
  const socket = await openTcp(host, port)
  let heard = ''
  // Late answers come together: each name once.
  socket.on('data', (chunk) => {
    heard = [...new Set(String(chunk))].join('')
  })
  socket.on('error', (error) => {
    heard = codeOf(error)
  })
  return lineOf(
    () => socket.write('x'),
    () => heard.slice(),
    () => {
      heard = '-'
    },
  )
}

async function udpLine(host: string, port: number): Promise<Line> {
  const socket = createSocket('udp4')
  socket.connect(port, host)
  await once(socket, 'connect')
  let heard = ''
  socket.on('message', (message) => {
    heard = String(message)
  })
  socket.on('error', (error) => {
    heard = codeOf(error)
  })
  return lineOf(
    () => socket.send('x'),
    () => heard.slice(),
    () => {
      heard = '-'
    },
  )
}

function lineOf(send: () => unknown, heard: () => string, forget: () => void): Line {
  return {
    send: () => void send(),
    take() {
      const text = heard()
      forget()
      return text === '' ? '-' : text
    },
  }
}

async function talk(line: Line, stopFile: string): Promise<void> {
  for (let left = limitTalk; left > 0 && !existsSync(stopFile); left--) {
    line.send()
    await sleep(100)
    const heard = line.take()
    process.stdout.write(`${heard} `)
    if (heard.startsWith('error')) break
  }
  process.stdout.write('\n')
  process.exit(0)
}

const host = rest[what === 'talk' ? 1 : 0] ?? ''
const port = Number(rest[what === 'talk' ? 2 : 1])
if (what === 'serve') serve(Number(rest[0]), rest[1] ?? '')
else if (what === 'poll') await poll(host, port, Number(rest[2]))
else {
  const line = rest[0] === 'tcp' ? tcpLine : udpLine
  await talk(await line(host, port), rest[3] ?? '')
}
