/** What ours and the peer forward in flow-load.ts: the same stations, the same 100 rules. */
import { type Item, put } from '../simulator/world.ts'

export const stations = 64
export const senders = 640
/** Destination ports that nobody may reach; the traffic goes to others. */
const closed = Array.from({ length: 98 }, (_, index) => 1000 + index)

export function stationMac(side: number, index: number): string {
  return `02:00:00:${side.toString(16).padStart(2, '0')}:00:${index.toString(16).padStart(2, '0')}`
}

/** A chain of 100 rules: answers pass, 98 ports are closed, the rest opens connections. */
export function aclItems(): Item[] {
  const rule = { chain: 'c' }
  return [
    put('chain', { id: 'c' }),
    put('rule', {
      ...rule,
      id: 'answers',
      position: 1,
      condition: { flow: { is: 'return' } },
      action: { kind: 'accept' },
    }),
    ...closed.map((port, index) =>
      put('rule', {
        ...rule,
        id: `closed-${port}`,
        position: 2 + index,
        condition: { protocol: { is: 17 }, dstPorts: { is: { first: port, last: port } } },
        action: { kind: 'drop' },
      }),
    ),
    put('rule', {
      ...rule,
      id: 'rest',
      position: 100,
      condition: { flow: { is: 'forward' } },
      action: { kind: 'accept' },
    }),
  ]
}

/**
 * The same as OpenFlow rules. Moving the ports into a register makes every connection a flow of its
 * own, as it is where chains follow connections; a flow for all would leave nothing to set up.
 */
export function aclFlows(): string {
  const ports = ['SRC[]->NXM_NX_REG0[0..15]', 'DST[]->NXM_NX_REG0[16..31]']
  const onward = [...ports.map((move) => `move:NXM_OF_UDP_${move}`), 'NORMAL'].join(',')
  return [
    'table=0,priority=10,udp,actions=ct(table=1)',
    'table=0,priority=1,actions=NORMAL',
    `table=1,priority=200,udp,ct_state=+trk+est,actions=${onward}`,
    ...closed.map((port) => `table=1,priority=100,udp,tp_dst=${port},actions=drop`),
    `table=1,priority=1,udp,ct_state=+trk+new,actions=ct(commit),${onward}`,
  ].join('\n')
}
