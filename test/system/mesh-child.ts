/**
 * A station that talks with all others:
 *
 *   mesh PORT ADDRESS…       echoes datagrams; for each line of input it calls all addresses, and
 *                            prints those that did not answer in time, with spaces between
 */
import { createSocket } from 'node:dgram'
import { createInterface } from 'node:readline'

const [portText = '', ...addresses] = process.argv.slice(2)
const port = Number(portText)
const limits = { patienceMs: 250, againMs: 50 } as const
const socket = createSocket('udp4')
let round = 0
let missing = new Set<string>()
let finish = (): void => {}

socket.on('message', (message, from) => {
  const [what, number] = message.toString().split(' ')
  if (what === 'ask') socket.send(`answer ${number}`, from.port, from.address)
  else if (Number(number) === round && missing.delete(from.address) && missing.size === 0) finish()
})
// A route that is not there, or a neighbour that does not answer, is an answer that does not come.
socket.on('error', () => {})

function call(): Promise<void> {
  round += 1
  missing = new Set(addresses)
  const send = (): void => {
    for (const address of missing) socket.send(`ask ${round}`, port, address, () => {})
  }
  const again = setInterval(send, limits.againMs)
  const late = new Promise<void>((resolve) => {
    finish = resolve
    setTimeout(resolve, limits.patienceMs)
  })
  send()
  return late.finally(() => clearInterval(again))
}

socket.bind(port, async () => {
  process.stdout.write('ready\n')
  for await (const _ of createInterface({ input: process.stdin })) {
    await call()
    process.stdout.write(`${[...missing].join(' ')}\n`)
  }
  socket.close()
})
