#!/usr/bin/env node
/** The agent of one host: wires driver, topology, gateway and the forwarding worker. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import createDebug from 'debug'
import { Forwarding } from './agent/forwarding.ts'
import { openHostStore, registerHost, thisHost } from './agent/host.ts'
import { loadHostId } from './agent/host-id.ts'
import { nameIds } from './agent/name-ids.ts'
import { readSettings, type Settings } from './agent/settings.ts'
import { collectStatus, namesFromDocker, type Parts } from './agent/status-collect.ts'
import { findTraceRequest, formatStories, listTraces } from './agent/trace-list.ts'
import { expandTracePacket, findTracePort } from './agent/trace-packet.ts'
import { openConnections } from './datapath/conntrack.ts'
import { removeDatapath } from './datapath/ovs/module.ts'
import { openLinks } from './datapath/rtnetlink.ts'
import { openDocker } from './driver/docker.ts'
import { startDriver } from './driver/driver.ts'
import { type Gateway, removeAll, startGateway } from './gateway/gateway.ts'
import { StoreError } from './topology/error.ts'
import type { Store } from './topology/store.ts'

const log = createDebug('midonet:main')

/** The agent cannot do this now; the message says why. */
export class AgentError extends Error {
  override readonly name = 'AgentError'
  readonly code: 'STARTING' | 'RUNNING'

  constructor(code: AgentError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** Runs the agent until SIGTERM or SIGINT. */
export async function runAgent(): Promise<void> {
  const settings = readSettings(process.env)
  mkdirSync(settings.runDir, { recursive: true, mode: 0o755 })
  const links = openLinks()
  const docker = openDocker(settings.dockerSocket)
  const opening = openParts(settings, links)
  // Told to whoever needs it; here it must only not be unhandled before somebody asks.
  opening.catch(() => {})
  let parts: Parts = { settings, docker }

  // The sockets first: Docker gives a plugin only seconds to answer.
  const driver = await startDriver({
    socketPath: settings.pluginSocket,
    apiSocketPath: join(settings.runDir, 'agent.sock'),
    apiTls: apiTlsOf(settings),
    store: opening.then(({ store }) => store),
    hostId: opening.then(({ hostId }) => hostId),
    links,
    docker,
    settled: async (revision) => {
      const { forwarding, gateway } = await opening
      await Promise.all([forwarding.settled(revision), gateway.settled(revision)])
    },
    status: () => collectStatus(parts),
    trace: async (port, packet) => {
      const { store, forwarding } = await opening
      const seen = await namesFromDocker(parts)
      const id = findTracePort(store, port, seen?.flatMap(({ endpoints }) => endpoints) ?? [])
      const result = await forwarding.trace(id, expandTracePacket(store, id, packet))
      return { ...result, text: nameIds(result.text, seen) }
    },
    traces: async (request) => {
      const { store, forwarding } = await opening
      if (request === undefined) return { text: listTraces(store, await forwarding.stories()) }
      const told = await forwarding.stories(findTraceRequest(store, request))
      const text = formatStories(told)
      return { ...told, text: nameIds(text, await namesFromDocker(parts)) }
    },
    dpctl: async (command, words) => ({
      text: await (await opening).forwarding.dpctl(command, words),
    }),
  })
  process.on('SIGHUP', () => {
    try {
      driver.reload()
    } catch (error) {
      console.error(`midonet: not read again: ${error instanceof Error ? error.message : error}`)
    }
  })
  const pidFile = join(settings.runDir, 'agent.pid')
  writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o644 })
  const stop = stopper(async () => {
    await driver.close()
    const opened = await opening.catch(() => undefined)
    await opened?.gateway.close()
    await opened?.forwarding.close()
    await opened?.store.close()
    rmSync(pidFile, { force: true })
  })
  try {
    parts = { ...parts, ...(await opening), driver }
    driver.reconciler.start()
    log('ready')
  } catch (error) {
    console.error(`midonet: ${error instanceof Error ? error.message : error}`)
    await stop(1)
  }
}

function apiTlsOf(settings: Settings) {
  const {
    apiListen: listen,
    apiCertificate: certificate,
    apiKey: key,
    apiTokens: tokens,
  } = settings
  return listen === undefined ? undefined : { listen, certificate, key, tokens }
}

interface Opened {
  readonly hostId: string
  readonly store: Store
  readonly forwarding: Forwarding
  readonly gateway: Gateway
}

async function openParts(settings: Settings, links: ReturnType<typeof openLinks>): Promise<Opened> {
  const hostId = loadHostId(settings.stateDir)
  const store = await openHostStore(settings, hostId)
  // Without etcd the host is what it was; it says so anew when it starts the next time.
  await registerHost(store, thisHost(hostId, links)).catch((error) => {
    if (!(error instanceof StoreError) || error.code !== 'UNREACHABLE') throw error
    console.error(`midonet: ${error.message}`)
  })
  const forwarding = new Forwarding(store, {
    hostId,
    flowLimit: settings.flowLimit,
    datapath: settings.datapath,
  })
  const gateway = startGateway({ store, links, hostId, connections: openConnections() })
  return { hostId, store, forwarding, gateway }
}

/** Stops once on a signal, within a bound, and exits. */
function stopper(close: () => Promise<void>): (status: number) => Promise<void> {
  let stopping = false
  const stop = async (status: number) => {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(status), 8_000).unref()
    await close().catch((error) => console.error(`midonet: ${error}`))
    process.exit(status)
  }
  process.on('SIGTERM', () => void stop(0))
  process.on('SIGINT', () => void stop(0))
  return stop
}

/** Removes what agents before made in the kernel. Refused while one runs. */
export async function clean(): Promise<void> {
  const settings = readSettings(process.env)
  const pid = runningAgent(settings)
  if (pid !== undefined)
    throw new AgentError('RUNNING', `an agent runs (pid ${pid}); stop it first: kill ${pid}`)
  removeDatapath('midonet')
  await removeAll({ links: openLinks() })
}

function runningAgent(settings: Settings): number | undefined {
  try {
    const pid = Number(readFileSync(join(settings.runDir, 'agent.pid'), 'utf8'))
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    return /(main|cli)\.js|midonet/.test(command) ? pid : undefined
  } catch {
    return undefined
  }
}

async function main(args: readonly string[]): Promise<void> {
  await (args.includes('--clean') ? clean() : runAgent())
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  main(process.argv.slice(2)).catch((error) => {
    console.error(`midonet: ${error instanceof Error ? error.message : error}`)
    process.exit(1)
  })
