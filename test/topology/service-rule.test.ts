import test, { type ExecutionContext } from 'ava'
import { openMemoryStore } from '../../topology/memory.ts'
import type { Draft } from '../../topology/store.ts'

async function refuses(
  t: ExecutionContext,
  code: string,
  message: RegExp,
  work: (draft: Draft) => void,
): Promise<void> {
  const store = await openMemoryStore()
  await store.transact((draft) => {
    draft.put('bridge', { id: 'red', adminUp: true })
    draft.put('dhcpSubnet', net)
    draft.put('dhcpHost', host)
  })
  const error = await t.throwsAsync(store.transact(work))
  t.regex(error?.message ?? '', message)
  t.is(Reflect.get(error ?? {}, 'code'), code)
}

const net = {
  id: 'net',
  bridge: 'red',
  enabled: true,
  subnet: '10.1.0.0/24',
  gateway: '10.1.0.1',
} as const
const host = { id: 'h', subnet: 'net', mac: '02:00:00:00:00:0a', address: '10.1.0.10' } as const

test('what no client could use is refused with what to write instead', async (t) => {
  const { gateway: _, ...bare } = net
  const no = (message: RegExp, work: (draft: Draft) => void) => refuses(t, 'INVALID', message, work)
  await no(/host bits; use 10\.1\.0\.0\/24/, (d) =>
    d.put('dhcpSubnet', { ...net, subnet: '10.1.0.7/24' }),
  )
  await no(/give a gateway or a server/, (d) => d.put('dhcpSubnet', bare))
  await no(/gateway: 10\.2\.0\.1 is no host/, (d) =>
    d.put('dhcpSubnet', { ...net, gateway: '10.2.0.1' }),
  )
  await no(/routes\.0: .* use 10\.9\.0\.0\/16/, (d) =>
    d.put('dhcpSubnet', { ...net, routes: [{ dst: '10.9.1.0/16', gateway: '10.1.0.9' }] }),
  )
  await no(/address: 10\.1\.0\.255 is no host/, (d) =>
    d.put('dhcpHost', { ...host, address: '10.1.0.255' }),
  )
  await no(/is the gateway's/, (d) => d.put('dhcpHost', { ...host, address: '10.1.0.1' }))
  // A subnet that moves must not leave its hosts behind.
  await no(/dhcpHost h: address/, (d) =>
    d.put('dhcpSubnet', { ...net, subnet: '10.2.0.0/24', gateway: '10.2.0.1' }),
  )
  await no(/no option nonsense/, (d) =>
    d.put('dhcpHost', { ...host, options: [{ option: 'nonsense', value: '1' }] }),
  )
  await no(/stands twice/, (d) =>
    d.put('dhcpHost', {
      ...host,
      options: [
        { option: 26, value: '1400' },
        { option: 'mtu', value: '1300' },
      ],
    }),
  )
  await no(/flow: is not known where a packet enters/, (d) =>
    d.put('traceRequest', {
      id: 't',
      device: { kind: 'bridge', id: 'red' },
      condition: { flow: { is: 'forward' } },
      limit: 1,
      enabled: true,
    }),
  )
})

test('a MAC or address is given once in a subnet', async (t) => {
  await refuses(t, 'CONFLICT', /02:00:00:00:00:0a is taken in dhcpSubnet net/, (d) =>
    d.put('dhcpHost', { ...host, id: 'h2', address: '10.1.0.11' }),
  )
  await refuses(t, 'CONFLICT', /10\.1\.0\.10 is taken in dhcpSubnet net/, (d) =>
    d.put('dhcpHost', { ...host, id: 'h2', mac: '02:00:00:00:00:0b' }),
  )
})

test('what is in use stays, and names what is missing', async (t) => {
  await refuses(t, 'IN_USE', /dhcpHost h/, (d) => d.delete('dhcpSubnet', 'net'))
  await refuses(t, 'MISSING_REFERENCE', /no qosPolicy gold/, (d) =>
    d.put('bridge', { id: 'red', adminUp: true, qosPolicy: 'gold' }),
  )
  await refuses(t, 'MISSING_REFERENCE', /no router r/, (d) =>
    d.put('traceRequest', {
      id: 't',
      device: { kind: 'router', id: 'r' },
      limit: 1,
      enabled: true,
    }),
  )
})
