/**
 * Small UDP packets as fast as this machine can make and take them, many per system call, so that
 * what is measured is the network and not the tool.
 *
 *     node udp-load.js send ADDRESS SECONDS      prints for how long it had a processor, in seconds
 *     node udp-load.js receive                   takes them until it is ended
 *     node udp-load.js receive awake             the same, and does not sleep between them
 */
import { readFileSync } from 'node:fs'
import koffi from 'koffi'
import { arena, bind, check, setSocketOption, socket } from '../../datapath/syscall.ts'
import { parseIp } from '../../packet/address.ts'

export const port = 5202

const batch = 64
/** 18 octets of payload fill the smallest Ethernet frame. */
const size = 18
/** struct mmsghdr of a 64-bit kernel, linux/socket.h; its msghdr names its iovec at 16. */
const headerSize = 64
const [afInet, sockDgram, solSocket, soRcvbufForce] = [2, 2, 1, 33]
const [dontWait, waitForOne] = [0x40, 0x10000]
/** What is silent for so long may be over. */
const silenceMs = 50

const libc = koffi.load(null)
const sendmmsg = libc.func('int sendmmsg(int, uintptr_t, unsigned int, int)')
const recvmmsg = libc.func('int recvmmsg(int, uintptr_t, unsigned int, int, uintptr_t)')
const connect = libc.func('int connect(int, const uint8_t *, unsigned int)')

/** One batch of message headers, each with a buffer of its own. */
function messages(): number {
  const memory = arena(16_384)
  for (let at = 0; at < batch; at++) {
    const [header, vector, buffer] = [at * headerSize, 8192 + at * 16, 12_288 + at * 32]
    memory.view.setBigUint64(header + 16, BigInt(memory.address + vector), true)
    memory.view.setBigUint64(header + 24, 1n, true)
    memory.view.setBigUint64(vector, BigInt(memory.address + buffer), true)
    memory.view.setBigUint64(vector + 8, BigInt(size), true)
  }
  return memory.address
}

function address(ip: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, afInet, true)
  view.setUint16(2, port)
  view.setUint32(4, ip)
  return bytes
}

function send(ip: number, seconds: number): number {
  const fd = check('socket', socket(afInet, sockDgram, 0))
  check('connect', connect(fd, address(ip), 16))
  const list = messages()
  const [start, before] = [performance.now(), waitedMs()]
  while (performance.now() < start + seconds * 1000) sendmmsg(fd, list, batch, 0)
  return (performance.now() - start - (waitedMs() - before)) / 1000
}

/** For how long this process would have run, but others did: proc(5), schedstat. */
function waitedMs(): number {
  return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6
}

/**
 * A receiver with a processor of its own that is faster than what comes would go to sleep after each
 * few packets, and to wake it would cost their sender more than to send them. How often depends on chance:
 * one that stays awake while packets come leaves that out.
 */
function receive(staysAwake: boolean): never {
  const fd = check('socket', socket(afInet, sockDgram, 0))
  check('bind', bind(fd, address(0)))
  setSocketOption(fd, solSocket, soRcvbufForce, 4 << 20)
  const list = messages()
  for (;;) {
    recvmmsg(fd, list, batch, waitForOne, 0)
    for (let last = performance.now(); staysAwake && performance.now() - last < silenceMs; )
      if (recvmmsg(fd, list, batch, dontWait, 0) > 0) last = performance.now()
  }
}

const [mode, target = '', seconds = '1'] = process.argv.slice(2)
if (mode === 'send') console.log(send(parseIp(target) ?? 0, Number(seconds)))
if (mode === 'receive') receive(target === 'awake')
