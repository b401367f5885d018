/** Topologies of the bench with chains: a routed packet through each of them. */
import type { Rule } from '../../topology/model.ts'
import { type Item, put } from '../simulator/world.ts'

/** A chain of `count` rules, each about one address group and port; the last lets all pass. */
export function ruleItems(count: number): Item[] {
  const groups = [...Array(100).keys()].map((n) =>
    put('addressGroup', {
      id: `group-${n}`,
      addresses: [...Array(100).keys()].map((m) => `10.${100 + n}.0.${m + 1}`),
    }),
  )
  const rules = [...Array(count - 1).keys()].map((n) =>
    rule(n, {
      condition: {
        protocol: { is: 6 },
        srcGroup: { is: `group-${n % 100}` },
        dstPorts: { is: { first: 1000 + n, last: 1000 + n } },
      },
      action: { kind: 'drop' },
    }),
  )
  return [
    put('chain', { id: 'c' }),
    ...groups,
    ...rules,
    rule(count, { action: { kind: 'accept' } }),
  ]
}

/** A chain that lets connections be opened and answered. */
export function statefulItems(): Item[] {
  return [
    put('chain', { id: 'c' }),
    rule(1, { condition: { flow: { is: 'return' } }, action: { kind: 'accept' } }),
    rule(2, {
      condition: { flow: { is: 'forward' }, protocol: { is: 6 } },
      action: { kind: 'accept' },
    }),
    rule(3, { action: { kind: 'drop' } }),
  ]
}

/** A chain that changes each source. */
export function snatItems(): Item[] {
  const ports = { first: 1024, last: 65535 }
  const targets = [{ first: '20.0.0.1', last: '20.0.0.1', ports }]
  return [
    put('chain', { id: 'c' }),
    rule(1, { action: { kind: 'snat', targets, verdict: 'accept' } }),
  ]
}

/** A load balancer before the second network's stations. */
export function vipItems(count: number): Item[] {
  return [
    put('loadBalancer', { id: 'lb', router: 'r', adminUp: true }),
    put('balancerPool', { id: 'pool', loadBalancer: 'lb', adminUp: true }),
    ...[...Array(count).keys()].map((n) =>
      put('poolMember', {
        id: `member-${n}`,
        pool: 'pool',
        address: `10.2.0.${n + 1}`,
        port: 8080,
        weight: 1,
        adminUp: true,
      }),
    ),
    put('vip', {
      id: 'vip',
      loadBalancer: 'lb',
      pool: 'pool',
      address: vipAddress,
      protocol: 'tcp',
      port: 80,
      persistence: 'none',
      adminUp: true,
    }),
  ]
}

export const vipAddress = '10.9.0.9'

function rule(position: number, value: Omit<Rule, 'id' | 'chain' | 'position'>): Item {
  return put('rule', { id: `rule-${position}`, chain: 'c', position, ...value })
}
