import test from 'ava'
import type { DesiredState, DesiredUplink } from '../../gateway/desired.ts'
import { Nftables, renderRuleset } from '../../gateway/nftables.ts'
import { FakeHost } from './fake.ts'

const uplink: DesiredUplink = {
  id: 'u1',
  router: 'quickstart',
  interface: 'mu00000000001',
  datapathInterface: 'mn00000000001',
  hostAddress: '169.254.1.1',
  hostCidr: '169.254.1.1/30',
  hostMac: '02:00:00:00:00:01',
  routerAddress: '169.254.1.2',
  mtu: 1500,
  subnets: ['10.1.0.0/24', '10.2.0.0/24'],
}
const state: DesiredState = {
  uplinks: [uplink],
  publications: [
    {
      endpoint: '0123456789abcdef',
      protocol: 'udp',
      hostAddress: '127.0.0.1',
      hostPort: 5353,
      address: '10.1.0.5',
      port: 53,
    },
    {
      endpoint: '0123456789abcdef',
      protocol: 'tcp',
      hostAddress: undefined,
      hostPort: 8080,
      address: '10.1.0.5',
      port: 80,
    },
  ],
}

test('the table guards, publishes, isolates and masquerades', (t) => {
  const text = renderRuleset(state, ['docker0']).replace(/"[0-9a-f]{32}"/, '"digest"')
  t.is(
    text,
    `table inet midonet {
	comment "digest"
	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname "mu00000000001" ip saddr != { 10.1.0.0/24, 10.2.0.0/24, 169.254.1.2 } counter drop comment "not a source of quickstart"
		iifname "mu00000000001" ip daddr 127.0.0.0/8 counter drop comment "loopback is not for containers"
		iifname "mu00000000001" meta nfproto ipv6 counter drop comment "no network has IPv6"
	}
	chain prerouting {
		type nat hook prerouting priority dstnat - 10; policy accept;
		fib daddr type local jump publish
	}
	chain output {
		type nat hook output priority -110; policy accept;
		fib daddr type local jump publish
	}
	chain publish {
		ip daddr 127.0.0.1 udp dport 5353 counter dnat ip to 10.1.0.5:53 comment "endpoint 0123456789ab"
		meta nfproto ipv4 tcp dport 8080 counter dnat ip to 10.1.0.5:80 comment "endpoint 0123456789ab"
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "mu*" ct state established,related accept
		oifname "mu*" ct state established,related accept
		oifname "mu*" ct status dnat counter accept comment "published ports"
		oifname "mu*" counter drop comment "neither published nor asked for"
		iifname "mu*" oifname { "docker0" } ct status dnat accept
		iifname "mu*" oifname { "docker0" } counter drop comment "networks of Docker"
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "mu00000000001" ip saddr 127.0.0.0/8 counter masquerade comment "host to quickstart"
		oifname "mu00000000001" fib saddr type local ct status & dnat != dnat counter masquerade comment "host to quickstart"
		oifname != "mu*" ip saddr 169.254.1.2 counter masquerade comment "out of quickstart"
		oifname "mu00000000001" ip saddr { 10.1.0.0/24, 10.2.0.0/24 } counter masquerade comment "quickstart to itself"
		oifname != "mu*" ip saddr { 10.1.0.0/24, 10.2.0.0/24 } counter masquerade comment "other protocols of quickstart"
	}
}
`,
  )
})

test('the digest tells rulesets apart', (t) => {
  const digest = (text: string) => /"([0-9a-f]{32})"/.exec(text)?.[1]
  t.is(digest(renderRuleset(state, [])), digest(renderRuleset(state, [])))
  t.not(digest(renderRuleset(state, [])), digest(renderRuleset({ ...state, publications: [] }, [])))
})

test('a name cannot break out of its comment', (t) => {
  const evil = { ...uplink, router: 'a" ; flush ruleset ; #\n' }
  const text = renderRuleset({ uplinks: [evil], publications: [] }, [])
  t.false(/["\n] ; flush/.test(text))
  t.true(text.includes('comment "out of a  flush ruleset  "'))
})

test('a table that stands is adopted, a changed one is written again', async (t) => {
  const host = new FakeHost()
  const text = renderRuleset(state, [])
  await new Nftables(host.run).apply(text)
  host.commands.length = 0

  const later = new Nftables(host.run)
  await later.apply(text)
  t.false(host.commands.some((command) => command.includes('-f')))
  t.false(await later.repair())

  host.table = host.table.replace(/.*masquerade.*\n/, '')
  t.true(await later.repair())
  t.is(host.table, text)
})

test('a table that lacks a rule at the start is written again', async (t) => {
  const host = new FakeHost()
  const text = renderRuleset(state, [])
  host.table = text.replace(/.*5353.*\n/, '')
  await new Nftables(host.run).apply(text)
  t.is(host.table, text)
})

test('where nft is missing, only a table that is needed is an error', async (t) => {
  const host = new FakeHost()
  host.missing.add('nft')
  const nftables = new Nftables(host.run)
  await nftables.apply(undefined)
  await t.throwsAsync(nftables.apply(renderRuleset(state, [])), {
    code: 'COMMAND_MISSING',
    message: /install nftables/,
  })
})
