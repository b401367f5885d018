#!/usr/bin/env node
/** The agent of one host: wires driver, topology, gateway and the forwarding worker. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import createDebug from 'debug'
import { bgpFolder, startSpeakers } from './agent/bgp.ts'
import { Forwarding } from './agent/forwarding.ts'
import { followHost, openHostStore, registerHost, thisHost } from './agent/host.ts'
import { knownHostId, loadHostId } from './agent/host-id.ts'
import { nameIds } from './agent/name-ids.ts'
import { readSettings, type Settings } from './agent/settings.ts'
import { collectStatus, namesFromDocker, type Parts } from './agent/status-collect.ts'
import { findTraceRequest, formatStories, listTraces } from './agent/trace-list.ts'
import { expandTracePacket, findTracePort } from './agent/trace-packet.ts'
import { removeTunnels } from './agent/tunnel.ts'
import { openConnections } from './datapath/conntrack.ts'
import { openContainer } from './datapath/container-link.ts'
import { giveAllBack } from './datapath/lending.ts'
import { removeDatapath } from './datapath/ovs/module.ts'
import { openLinks } from './datapath/rtnetlink.ts'
import { openDocker } from './driver/docker.ts'
import { startDriver } from './driver/driver.ts'
import { removeSpeakers, type Speakers } from './gateway/bgp/speakers.ts'
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
  const docker = openDocker(settings.dockerSocket, {
    managed: settings.managedSocket !== undefined,
  })
  const opening = openParts(settings, links)
  // Told to whoever needs it; here it must only not be unhandled before somebody asks.
  opening.catch(() => {})
  let parts: Parts = { settings, docker }

  // The sockets first: Docker gives a plugin only seconds to answer.
  const driver = await startDriver({
    socketPath: settings.pluginSocket,
    managed: managedOf(settings),
    apiSocketPath: join(settings.runDir, 'agent.sock'),
    apiTls: apiTlsOf(settings),
    store: opening.then(({ store }) => store),
    hostId: opening.then(({ hostId }) => hostId),
    links,
    docker,
    openContainer,
    settled: async (revision) => {
      const { store, forwarding, gateway } = await opening
      await gateway.settled(revision)
      // What the gateway wrote upon it, too: the NAT of its uplinks.
      await forwarding.settled(Math.max(revision, store.revision))
    },
    status: () => collectStatus(parts),
    trace: async (port, packet) => {
      const { store, forwarding } = await opening
      const seen = await namesFromDocker(parts)
      const attached = store
        .list('endpoint')
        .flatMap(({ id, cni }) => (cni === undefined ? [] : [{ id, container: cni.container }]))
      const endpoints = [...(seen?.flatMap((network) => network.endpoints) ?? []), ...attached]
      const id = findTracePort(store, port, endpoints)
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
    opened?.stopFollowing()
    await opened?.speakers.close()
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

function managedOf({ managedSocket: socketPath, scope }: Settings) {
  return socketPath === undefined ? undefined : { socketPath, scope }
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
  readonly speakers: Speakers
  readonly stopFollowing: () => void
}

/** What etcd is away or busy for: the host says what it is when that is over. */
const passing: ReadonlySet<string> = new Set(['UNREACHABLE', 'OUTCOME_UNKNOWN', 'BUSY'])

async function openParts(settings: Settings, links: ReturnType<typeof openLinks>): Promise<Opened> {
  const hostId = loadHostId(settings.stateDir)
  const store = await openHostStore(settings, hostId)
  // Without etcd the host is what it was; it says so anew when etcd is back.
  const { underlay } = settings
  const describe = () => thisHost(hostId, links)
  const isKnown = await registerHost(store, describe(), underlay).then(
    () => true,
    (error) => {
      if (!(error instanceof StoreError) || !passing.has(error.code)) throw error
      console.error(`midonet: ${error.message}`)
      return false
    },
  )
  const stopFollowing = followHost(store, { describe, underlay, isKnown })
  const speakers = startSpeakers(settings, { id: hostId, store, links })
  // Flows that rest on routes learned before are kept only when these are there again.
  await speakers.adopted
  const forwarding = new Forwarding(store, {
    hostId,
    flowLimit: settings.flowLimit,
    datapath: settings.datapath,
    stateFile: stateFileOf(settings),
  })
  const gateway = startGateway({ store, links, hostId, connections: openConnections() })
  return { hostId, store, forwarding, gateway, speakers, stopFollowing }
}

function stateFileOf({ runDir }: Pick<Settings, 'runDir'>): string {
  return join(runDir, 'flow-state')
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
  const socketPath = join(settings.runDir, 'agent.sock')
  const pid = runningAgent(settings)
  if (pid !== undefined)
    throw new AgentError('RUNNING', `an agent runs (pid ${pid}); stop it first: kill ${pid}`)
  // One in a managed plugin has a number of its own there.
  if (await isAnswered(socketPath))
    throw new AgentError(
      'RUNNING',
      `an agent runs (it answers at ${socketPath}); stop it first: docker plugin disable --force NAME`,
    )
  removeDatapath('midonet')
  giveAllBack()
  await removeSpeakers({
    links: openLinks(),
    hostId: knownHostId(settings.stateDir),
    runDir: bgpFolder(settings),
  })
  removeTunnels()
  await removeAll({ links: openLinks() })
  rmSync(stateFileOf(settings), { force: true })
}

function runningAgent(settings: Settings): number | undefined {
  try {
    const pid = Number(readFileSync(join(settings.runDir, 'agent.pid'), 'utf8'))
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    // The first process of a container, such as a managed plugin, is another one out here.
    return pid !== 1 && /(main|cli)\.js|midonet/.test(command) ? pid : undefined
  } catch {
    return undefined
  }
}

/** Whether somebody listens at a unix socket. */
function isAnswered(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    const done = (isThere: boolean) => {
      socket.destroy()
      resolve(isThere)
    }
    socket.once('connect', () => done(true))
    socket.once('error', () => done(false))
  })
}

async function main(args: readonly string[]): Promise<void> {
  await (args.includes('--clean') ? clean() : runAgent())
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  main(process.argv.slice(2)).catch((error) => {
    console.error(`midonet: ${error instanceof Error ? error.message : error}`)
    process.exit(1)
  })
