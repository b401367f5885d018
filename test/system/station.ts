/** What stations do: ping, talk over TCP and UDP, trace routes. Each says what was seen. */
import { once } from 'node:events'
import type { Stage } from './stage.ts'

const child = new URL('./station-child.js', import.meta.url).pathname

/** Serves TCP and UDP at `port` of a station until the stage ends. */
export async function serve(stage: Stage, station: string, port: number): Promise<void> {
  const args = ['netns', 'exec', station, process.execPath, child, 'serve', `${port}`]
  const server = stage.spawn('ip', ...args)
  if (server.stdout !== null) await once(server.stdout, 'data')
}

/** Sends so many bytes to a server: `from ADDRESS got BYTES`, `error …` or `silence`. */
export function ask(
  stage: Stage,
  station: string,
  how: { readonly over: 'tcp' | 'udp'; readonly to: string; readonly bytes?: number },
): Promise<string> {
  // `10.1.0.2:80` or `[fd00::2]:80`.
  const [, address, port] = /^\[?(.*?)\]?:(\d+)$/.exec(how.to) ?? []
  return stage.in(
    station,
    `${process.execPath} ${child} ${how.over} ${address} ${port} ${how.bytes ?? 5}`,
  )
}

/** The output of three pings, `bytes` each. */
export function ping(stage: Stage, station: string, to: string, bytes = 56): Promise<string> {
  return stage.in(station, `busybox ping -c 3 -w 15 -s ${bytes} ${to}`)
}

/** The hops to an address, by UDP. */
export function traceroute(stage: Stage, station: string, to: string): Promise<string> {
  return stage.in(station, `busybox traceroute -n -q 2 -w 3 -m 4 ${to}`)
}
