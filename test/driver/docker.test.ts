import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { openDocker } from '../../driver/docker.ts'

/** A Docker that answers by `handler`; returns its socket. */
async function startDocker(t: ExecutionContext, handler: RequestListener): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-docker-'))
  const server = createServer(handler)
  await new Promise<void>((resolve) => server.listen(join(dir, 'docker.sock'), resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
    rmSync(dir, { recursive: true })
  })
  return join(dir, 'docker.sock')
}

const red = {
  Name: 'red',
  Id: '06f587361c0a731db9401e774a5a83f5e34c443a70140232529a9c0a0a2f1fbc',
  Driver: 'midonet:latest',
  IPAM: {
    Driver: 'default',
    Options: null,
    Config: [
      { Subnet: '10.1.0.0/24', Gateway: '10.1.0.1', AuxiliaryAddresses: { dns: '10.1.0.53' } },
      { Subnet: 'fd00:9::/64', Gateway: 'fd00:9::1/64' },
    ],
  },
  Containers: {
    c1: {
      Name: 'web',
      EndpointID: '69dc0c0c',
      MacAddress: '02:6d:0a:01:00:02',
      IPv4Address: '10.1.0.2/24',
      IPv6Address: 'fd00:9::2/64',
    },
    'ep-77': { Name: '', EndpointID: '77', MacAddress: '', IPv4Address: '', IPv6Address: '' },
  },
}
const pooled = { Name: 'p', Id: 'p', Driver: 'bridge', IPAM: { Driver: 'midonet', Config: null } }
const others = [
  { Name: 'bridge', Id: 'b', Driver: 'bridge', IPAM: { Driver: 'default', Config: [] } },
  { Name: 'x', Id: 'x', Driver: 'midonetwork', IPAM: { Driver: 'default', Config: [] } },
]

test('our networks are told with what uses their addresses', async (t) => {
  const asked: string[] = []
  const path = await startDocker(t, (request, response) => {
    const [target = ''] = (request.url ?? '').split('?')
    asked.push(target)
    if (target === '/networks') return response.end(JSON.stringify([red, pooled, ...others]))
    if (target === `/networks/${red.Id}`) return response.end(JSON.stringify(red))
    return response.end(JSON.stringify(pooled))
  })
  t.deepEqual(await openDocker(path).networks('midonet'), [
    {
      id: red.Id,
      name: 'red',
      driver: 'midonet:latest',
      ipamDriver: 'default',
      subnets: ['10.1.0.0/24', 'fd00:9::/64'],
      reserved: ['10.1.0.1', '10.1.0.53', 'fd00:9::1'],
      endpoints: [
        { id: '69dc0c0c', container: 'web', addresses: ['10.1.0.2', 'fd00:9::2'] },
        { id: '77', container: '77', addresses: [] },
      ],
    },
    {
      id: 'p',
      name: 'p',
      driver: 'bridge',
      ipamDriver: 'midonet',
      subnets: [],
      reserved: [],
      endpoints: [],
    },
  ])
  t.deepEqual(asked, ['/networks', `/networks/${red.Id}`, '/networks/p'])
})

test('a network that goes while it is asked for is gone, another fault is a fault', async (t) => {
  let status = 404
  const path = await startDocker(t, (request, response) => {
    if (request.url?.startsWith('/networks?') || request.url === '/networks')
      return response.end(JSON.stringify([red]))
    response.statusCode = status
    return response.end('{"message":"no"}')
  })
  t.deepEqual(await openDocker(path).networks('midonet'), [])
  status = 500
  await t.throwsAsync(openDocker(path).networks('midonet'), { code: 'DOCKER_UNREACHABLE' })
})

test('a Docker that is absent, hangs or answers nonsense is unreachable', async (t) => {
  const refused = { code: 'DOCKER_UNREACHABLE', message: /cannot be asked for its networks/ }
  await t.throwsAsync(openDocker('/nonexistent/docker.sock').networks('midonet'), refused)
  const hanging = await startDocker(t, () => {})
  await t.throwsAsync(openDocker(hanging, { answerMs: 200 }).networks('midonet'), refused)
  const nonsense = await startDocker(t, (_, response) => response.end('{"a":1}'))
  await t.throwsAsync(openDocker(nonsense).networks('midonet'), refused)
})

test('a managed plugin makes Docker look for its plain name, each time that Docker is there', async (t) => {
  const asked: string[] = []
  const path = await startDocker(t, ({ url = '' }, response) => {
    asked.push(url)
    if (url.includes('/events')) response.write('{"Type":"network"}\n')
    else response.end('{"Volumes":[],"Warnings":[]}')
  })
  const isLooking = () => asked.some((url) => url.includes('/volumes'))
  const stopPlain = openDocker(path).watch(() => {})
  await new Promise((resolve) => setTimeout(resolve, 200))
  stopPlain()
  t.false(isLooking())
  const stop = openDocker(path, { managed: true }).watch(() => {})
  for (let tries = 0; tries < 100 && !isLooking(); tries++)
    await new Promise((resolve) => setTimeout(resolve, 20))
  stop()
  t.true(isLooking())
})

test('events are followed, also after Docker ended them', async (t) => {
  let streams = 0
  const path = await startDocker(t, (_, response) => {
    streams++
    response.write('{"Type":"network"}\n')
    if (streams === 1) setTimeout(() => response.end(), 50)
  })
  let changes = 0
  const stop = openDocker(path).watch(() => {
    changes++
  })
  const end = performance.now() + 8_000
  while (streams < 2 && performance.now() < end)
    await new Promise((resolve) => setTimeout(resolve, 50))
  stop()
  t.is(streams, 2)
  t.true(changes >= 3)
})
