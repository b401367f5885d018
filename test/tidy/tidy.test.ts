/** The house rules that a machine can check: who may import whom, and what no file may hold. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import test from 'ava'

const root = new URL('../../..', import.meta.url).pathname

/** Which of our folders a folder may import. Files at the root wire and may import all. */
const directions: Record<string, readonly string[]> = {
  packet: [],
  topology: ['packet'],
  datapath: ['packet'],
  simulator: ['packet', 'topology', 'datapath'],
  driver: ['packet', 'topology', 'datapath'],
  gateway: ['packet', 'topology', 'datapath'],
  cli: [],
  // Wires, as the files at the root do.
  packaging: [],
  agent: ['packet', 'topology', 'datapath', 'simulator', 'driver', 'gateway'],
}

/** Packages, and the one place that may import each. */
const packages: Record<string, readonly string[]> = {
  koffi: ['datapath/syscall.ts'],
  '@grpc/grpc-js': ['topology/etcd-client.ts'],
  'classic-level': ['topology/leveldb.ts'],
  zod: [
    'topology/',
    'driver/request.ts',
    'driver/cni-request.ts',
    'driver/rest/operation.ts',
    'agent/settings.ts',
  ],
  express: ['driver/'],
  dockerode: ['driver/docker.ts', 'driver/docker-swarm.ts'],
  commander: ['agent/command.ts'],
  debug: [
    'topology/',
    'datapath/',
    'simulator/forwarder.ts',
    'driver/',
    'gateway/',
    'main.ts',
    'agent/',
  ],
}

/** Beyond types, the simulator and driver may use only these files of datapath. */
const datapathFor: Record<string, readonly string[]> = {
  simulator: ['datapath/datapath.ts'],
  driver: ['datapath/link.ts'],
  gateway: ['datapath/link.ts', 'datapath/sysctl.ts'],
}

interface Source {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

const sources: readonly Source[] = ['', ...Object.keys(directions)].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: folder !== '', encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => read(join(folder, name))),
)

function read(path: string): Source {
  const text = readFileSync(join(root, path), 'utf8')
  const found = [...text.matchAll(/^(?:import|export)\b[^'"]*?from '([^']+)'/gms)]
  const bare = [...text.matchAll(/(?:^import |import\()'([^']+)'/gm)]
  const imports = [...found, ...bare].map((match) => match[1] ?? '')
  return { path, text, imports }
}

/** Every import that breaks a direction, as `file imports target`. */
function wrongImports(all: readonly Source[]): string[] {
  return all.flatMap(({ path, imports }) => {
    const folder = path.includes('/') ? (path.split('/')[0] ?? '') : ''
    return imports
      .filter((target) => !isAllowed(path, folder, target))
      .map((t) => `${path} imports ${t}`)
  })
}

function isAllowed(path: string, folder: string, target: string): boolean {
  if (target.startsWith('node:')) return folder !== 'packet'
  if (!target.startsWith('.')) {
    const allowed = packages[target]
    return (
      allowed?.some((place) => path === place || (place.endsWith('/') && path.startsWith(place))) ??
      false
    )
  }
  const to = relative(root, join(root, dirname(path), target))
  const toFolder = to.includes('/') ? (to.split('/')[0] ?? '') : ''
  if (folder === '' || toFolder === folder) return true
  if (!directions[folder]?.includes(toFolder)) return false
  return toFolder !== 'datapath' || (datapathFor[folder]?.includes(to) ?? true)
}

test('imports point one way', (t) => {
  t.deepEqual(wrongImports(sources), [])
})

test('a wrong import is found', (t) => {
  const bad = (path: string, target: string) =>
    wrongImports([{ path, text: '', imports: [target] }])
  t.is(bad('packet/arp.ts', '../topology/model.ts').length, 1)
  t.is(bad('driver/server.ts', '../simulator/bridge.ts').length, 1)
  t.is(bad('simulator/bridge.ts', '../datapath/rtnetlink.ts').length, 1)
  t.is(bad('driver/server.ts', 'koffi').length, 1)
  t.is(bad('simulator/bridge.ts', '../packet/address.ts').length, 0)
})

const banned: readonly (readonly [RegExp, string, (path: string) => boolean])[] = [
  [/throw new (Type|Range)?Error\(/, 'a bare error: give it a class with a code', () => true],
  [/@ts-(ignore|expect-error)/, 'an escape from the type system', () => true],
  [/\b(TODO|FIXME|XXX|HACK)\b/, 'a left-over', () => true],
  [/(?<!\.)\bexec(Sync)?\(|shell: true/, 'a shell', () => true],
  [
    /\b(Date\.now|new Date|Math\.random|performance\.now|await |async )/,
    'a clock, dice or waiting',
    isPure,
  ],
]

function isPure(path: string): boolean {
  return path.startsWith('packet/') || path.startsWith('simulator/') || path === 'topology/rules.ts'
}

test('no file holds what is banned', (t) => {
  const found = sources.flatMap(({ path, text }) =>
    banned
      .filter(([, , applies]) => applies(path))
      .flatMap(([pattern, what]) =>
        text
          .split('\n')
          .flatMap((line, at) =>
            isCode(line) && pattern.test(line) ? [`${path}:${at + 1} ${what}`] : [],
          ),
      ),
  )
  t.deepEqual(found, [])
})

function isCode(line: string): boolean {
  return !/^\s*(\/\/|\*|\/\*)/.test(line)
}

test('files stay under 400 lines and lines under 120 columns', (t) => {
  const long = sources.flatMap(({ path, text }) => {
    const lines = text.split('\n')
    const wide = lines.filter((line) => line.length > 120).map(() => `${path}: a line over 120`)
    return lines.length > 401 ? [`${path}: ${lines.length} lines`, ...wide] : wide
  })
  t.deepEqual(long, [])
})
