/** Services of web servers in a Swarm, and a client that asks them, one connection for each question. */
import { type Engine, image } from './engine.ts'
import type { SwarmMachines } from './swarm-machines.ts'

/** Serves its container's name. */
export const web = ['sh', '-c', 'hostname >/www/index.html; exec httpd -f -p 80 -h /www'] as const

const mirrorScript = `mkdir /www/cgi-bin
cd /www/cgi-bin
cat >index.cgi <<'.'
#!/bin/sh
echo Content-Type: text/plain
echo
echo $(hostname) $REMOTE_ADDR
.
chmod 755 index.cgi
exec httpd -f -p 0.0.0.0:80 -h /www`

/** Says who serves, and whose connection it is: the address that the server sees. */
export const mirror = ['sh', '-c', mirrorScript] as const

/** Makes a service of web servers on network `net`; options go before the image. */
export async function createWeb(
  swarm: SwarmMachines,
  name: string,
  ...options: readonly string[]
): Promise<void> {
  await createService(swarm.leader, name, web, '--network', 'net', ...options)
  await swarm.converged(name)
}

/** Makes a service; it is not waited for. */
export async function createService(
  manager: Engine,
  name: string,
  command: readonly string[],
  ...options: readonly string[]
): Promise<void> {
  const grace = ['--restart-delay', '500ms', '--no-resolve-image', '--detach', '--quiet']
  const end = options.includes('--stop-grace-period') ? [] : ['--stop-grace-period', '1s']
  const words = ['service', 'create', '--name', name, ...grace, ...end, ...options, image]
  await manager.mustDocker(...words, ...command)
}

/** What a name resolves to, asked in the container `client` of a machine. */
export async function lookUpName(engine: Engine, name: string): Promise<readonly string[]> {
  const { stdout } = await engine.docker('exec', 'client', 'nslookup', name)
  return [...stdout.matchAll(/Address: (10\.110\.[\d.]+)/g)].map((match) => match[1] ?? '').sort()
}

/** The address of a service on a network, as Swarm gave it. */
export async function vipOf(manager: Engine, name: string): Promise<string> {
  const format = '{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}'
  const said = await manager.mustDocker('service', 'inspect', '-f', format, name)
  const addresses = said.split(' ').map((one) => one.split('/')[0] ?? '')
  return addresses.find((one) => one.startsWith('10.11')) ?? ''
}

/** What the web server at an address says to `client`; empty when it says nothing. */
export async function askWeb(engine: Engine, address: string): Promise<string> {
  const request = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 ${address} 80 | tail -n 1`
  const { stdout } = await engine.docker('exec', 'client', 'sh', '-c', request)
  return stdout.trim()
}

/** Asks until as many different servers have answered; at most 60 times. */
export async function serversOf(
  engine: Engine,
  address: string,
  count: number,
): Promise<ReadonlySet<string>> {
  const seen = new Set<string>()
  for (let tries = 0; tries < 60 && seen.size < count; tries++) {
    const answer = await askWeb(engine, address)
    if (answer !== '') seen.add(answer)
  }
  return seen
}

/** Asks again and again while something happens: how often, and how many were not answered. */
export async function failuresWhile(
  ask: () => Promise<string>,
  work: () => Promise<void>,
): Promise<{ readonly asked: number; readonly failed: number; readonly lastFailureMs: number }> {
  let [asked, failed, isDone, lastFailureMs] = [0, 0, false, 0]
  const started = performance.now()
  const asking = (async () => {
    while (!isDone) {
      asked++
      if ((await ask()) !== '') continue
      failed++
      lastFailureMs = performance.now() - started
    }
  })()
  await work()
  isDone = true
  await asking
  return { asked, failed, lastFailureMs }
}
