import test from 'ava'
import { type Agent, contents, dockerId, networkBody, startAgent } from './agent.ts'

const gateway = { RequestAddressType: 'com.docker.network.gateway' }

async function pool(agent: Agent, Pool: string, rest: object = {}) {
  const request = { AddressSpace: 'midonet-local', Pool, SubPool: '', Options: null, V6: false }
  return (await agent.call('IpamDriver.RequestPool', { ...request, ...rest })).body ?? {}
}

async function address(agent: Agent, PoolID: unknown, Address = '', Options: object | null = null) {
  return (await agent.call('IpamDriver.RequestAddress', { PoolID, Address, Options })).body ?? {}
}

test('the handshake is answered as Docker 20.10 expects it', async (t) => {
  const { call } = await startAgent(t)
  t.deepEqual((await call('IpamDriver.GetCapabilities')).body, {
    RequiresMACAddress: false,
    RequiresRequestReplay: false,
  })
  t.deepEqual((await call('IpamDriver.GetDefaultAddressSpaces')).body, {
    LocalDefaultAddressSpace: 'midonet-local',
    GlobalDefaultAddressSpace: 'midonet-global',
  })
})

test('tenants with address spaces of their own may have the same subnet', async (t) => {
  const agent = await startAgent(t)
  const space = (name: string) => ({ Options: { 'org.midonet.space': name } })
  const [red, blue] = [
    await pool(agent, '10.9.0.0/24', space('red')),
    await pool(agent, '10.9.0.0/24', space('blue')),
  ]
  t.not(red.PoolID, blue.PoolID)
  t.is((await address(agent, red.PoolID, '10.9.0.5')).Address, '10.9.0.5/24')
  t.is((await address(agent, blue.PoolID, '10.9.0.5')).Address, '10.9.0.5/24')
  t.regex(String((await pool(agent, '10.9.0.0/25', space('red'))).Err), /overlaps/)
  t.regex(
    String((await pool(agent, '10.9.0.0/25', space('a/b'))).Err),
    /org\.midonet\.space must be/,
  )
  const unknown = await pool(agent, '10.9.0.0/25', { Options: { 'org.midonet.spaec': 'x' } })
  t.regex(String(unknown.Err), /unknown option/)
})

test('a network’s pool, gateway and addresses, as recorded, leave nothing behind', async (t) => {
  const agent = await startAgent(t)
  const made = await pool(agent, '10.9.0.0/16', {
    SubPool: '10.9.5.0/24',
    Options: { tenant: 't1' },
  })
  t.like(made, { Pool: '10.9.0.0/16', Data: {} })
  t.is((await address(agent, made.PoolID, '10.9.0.254', gateway)).Address, '10.9.0.254/16')
  t.is((await address(agent, made.PoolID, '10.9.5.9')).Address, '10.9.5.9/16')
  const next = String((await address(agent, made.PoolID)).Address)
  t.regex(next, /^10\.9\.5\.\d+\/16$/)
  for (const Address of ['10.9.5.9', next.replace('/16', ''), '10.9.0.254'])
    t.deepEqual(
      (await agent.call('IpamDriver.ReleaseAddress', { PoolID: made.PoolID, Address })).body,
      {},
    )
  const released = await agent.call('IpamDriver.ReleasePool', { PoolID: made.PoolID })
  t.deepEqual(released.body, {})
  t.deepEqual(contents(agent.store), [])
})

test('without a subnet one is chosen that is free here', async (t) => {
  const agent = await startAgent(t)
  agent.links.addAddress('eth0', '172.30.0.9/24')
  agent.links.setRoute({ dst: '172.30.1.0/24', gateway: undefined, interface: 'eth1' })
  const body = networkBody({ id: dockerId(1), subnet: '172.30.2.0/24' })
  await agent.call('NetworkDriver.CreateNetwork', body)
  t.is((await pool(agent, '')).Pool, '172.30.3.0/24')
  t.is((await pool(agent, '')).Pool, '172.30.4.0/24')
})

test('IPv6 pools give IPv6 addresses', async (t) => {
  const agent = await startAgent(t)
  const made = await pool(agent, 'fd00:9::/64', { V6: true })
  t.is((await address(agent, made.PoolID, '', gateway)).Address, 'fd00:9::1/64')
  t.is((await address(agent, made.PoolID, 'fd00:9::77')).Address, 'fd00:9::77/64')
})

test('errors stand under both keys, and say what to do', async (t) => {
  const agent = await startAgent(t)
  const made = await pool(agent, '10.1.0.0/24')
  await address(agent, made.PoolID, '10.1.0.5')
  const taken = await address(agent, made.PoolID, '10.1.0.5')
  t.regex(String(taken.Error), /10\.1\.0\.5 is taken; choose another one/)
  t.is(taken.Err, taken.Error)
  t.regex(String((await address(agent, made.PoolID, '10.2.0.5')).Error), /not in 10\.1\.0\.0\/24/)
  t.regex(String((await address(agent, 'none')).Error), /pool none is unknown/)
  t.regex(String((await pool(agent, '10.1.0.0/16')).Error), /overlaps with 10\.1\.0\.0\/24/)
  t.regex(String((await pool(agent, 'x')).Error), /subnet x is no network/)
  t.regex(String((await pool(agent, 'fd00::/64')).Error), /is not IPv4/)
})

test('releases of what is unknown succeed', async (t) => {
  const { call } = await startAgent(t)
  const unknown = { PoolID: 'none', Address: '10.0.0.1' }
  t.deepEqual((await call('IpamDriver.ReleaseAddress', unknown)).body, {})
  t.deepEqual((await call('IpamDriver.ReleasePool', unknown)).body, {})
})

test('a hundred addresses asked for at once are all different', async (t) => {
  const agent = await startAgent(t)
  const made = await pool(agent, '10.1.0.0/24')
  const given = await Promise.all(Array.from({ length: 100 }, () => address(agent, made.PoolID)))
  t.is(new Set(given.map(({ Address }) => Address)).size, 100)
  t.true(given.every(({ Address }) => String(Address).endsWith('/24')))
})

test('a full pool says so', async (t) => {
  const agent = await startAgent(t)
  const made = await pool(agent, '10.1.0.0/30')
  await address(agent, made.PoolID)
  await address(agent, made.PoolID)
  t.regex(String((await address(agent, made.PoolID)).Error), /all addresses of .* are taken/)
})
