/** Commands and what they print and do, as documentation: one session a test. */
import test from 'ava'
import { complete } from '../../cli/complete.ts'
import { check, open } from './bench.ts'

test('the walk through a router with an uplink', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > router create name "edge router"
    router0
    > router router0 add port address 10.1.0.1 net 10.1.0.0/24
    router0:port0
    > router router0 add port addresses 10.2.0.1/24,10.3.0.1/24
    router0:port1
    > host list
    host host0 name H alive A
    > host host0 add binding port router0:port0 interface gns3out
    host host0 interface gns3out port router0:port0
    > host host0 list binding
    binding host host0 interface gns3out port router0:port0
    > router router0 list port
    port port0 device router0 state up plugged yes mac M address 10.1.0.1 net 10.1.0.0/24
    port port1 device router0 state up plugged no mac M addresses 10.2.0.1/24,10.3.0.1/24
    > router "edge router" show name
    edge router
    > list router name "edge router"
    router router0 name "edge router" state up
    > router router0 set state down name core
    > router router0 show
    router router0 name core state down
    > router router0 clear name
    > show router router0
    router router0 state down
    > host host0 delete binding port router0:port0
    > delete router router0
    > router list
    `,
  )
  t.deepEqual(bench.store.list('port'), [])
})

test('links are made and undone on both sides', async (t) => {
  const bench = await open(t)
  await check(
    t,
    bench,
    `
    > router create
    router0
    > bridge create name lan
    bridge0
    > bridge create
    bridge1
    > router router0 add port address 10.1.0.1/24
    router0:port0
    > bridge lan add port
    bridge0:port0
    > bridge bridge1 port add
    bridge1:port0
    > router router0 port port0 set peer bridge0:port0
    > bridge bridge0 port list
    port port0 device bridge0 state up plugged no peer router0:port0
    > port router0:port0 set peer bridge1:port0
    > port list
    port port0 device bridge0 state up plugged no
    port port0 device bridge1 state up plugged no peer router0:port0
    port port0 device router0 state up plugged no peer bridge1:port0 mac M address 10.1.0.1 net 10.1.0.0/24
    > port router0:port0 clear peer
    > bridge bridge1 port port0 show peer
    > router router0 add route dst 203.0.113.2/32 src 0.0.0.0/0 type normal port router0:port0
    router0:route0
    > router router0 route route0 show
    route route0 type normal src 0.0.0.0/0 dst 203.0.113.2/32 port router0:port0 weight 100
    > router router0 delete route route0
    > router router0 list route
    > router router0 port port0 set addresses 10.1.0.1/24,fd00:1::1/64
    > router router0 port port0 show addresses
    10.1.0.1/24,fd00:1::1/64
    > router router0 add route dst 2001:db8::/32 port router0:port0 gw fd00:1::2
    router0:route1
    > router router0 list route
    route route1 type normal src ::/0 dst 2001:db8::/32 gw fd00:1::2 port router0:port0 weight 100
    `,
  )
})

test('what cannot be is said, with the status a script needs', async (t) => {
  const { run } = await open(t)
  await run('router create name r')
  for (const [line, said] of [
    ['router router7 show', 'error 1: there is no router router7'],
    ['router r show colour', 'error 2: Syntax error at: colour'],
    ['router r set state sideways', 'error 2: Syntax error at: state sideways (one of up, down)'],
    ['router r set', 'error 2: Missing arguments, incomplete command (ATTRIBUTE VALUE)'],
    ['frobnicate', 'error 2: Syntax error at: frobnicate'],
    ['router', 'error 2: Missing arguments, incomplete command'],
    ['router create name "r', 'error 2: Syntax error at: " (a quote has no end)'],
    ['chain create name c extra', 'error 2: Syntax error at: extra'],
    ['host create', 'error 2: a host cannot be made here (see help)'],
  ] as const) {
    const printed = await run(line)
    t.true(printed.startsWith(said), `${line}: ${printed}`)
  }
})

test('ids instead of aliases, for scripts', async (t) => {
  const { run, store } = await open(t, false)
  const id = await run('router create name r')
  t.is(id, store.list('router')[0]?.id ?? '')
  t.is(await run('router list'), `router ${id} name r state up`)
  t.is(await run(`router ${id} show name`), 'r')
  // Aliases are understood all the same.
  t.is(await run('router router0 show name'), 'r')
})

test('the tabulator knows verbs, collections, objects, attributes and values', async (t) => {
  const { run, session, client } = await open(t)
  await run('router create name r')
  await run('router router0 add port address 10.1.0.1/24')
  const offered = async (line: string) =>
    (await complete(session, client, line))[0].map((word) => word.trim())
  t.true((await offered('')).includes('router'))
  t.deepEqual(await offered('rou'), ['router'])
  t.deepEqual(await offered('router router'), ['router0'])
  t.true((await offered('router router0 ')).includes('port'))
  t.deepEqual(await offered('router router0 set st'), ['state'])
  t.deepEqual(await offered('router router0 set state '), ['down', 'up'])
  t.deepEqual(await offered('port list pe'), ['peer'])
  t.deepEqual(await offered('router router0 port port0 set peer '), ['router0:port0'])
  t.deepEqual(await offered('router router0 nonsense '), [])
})
