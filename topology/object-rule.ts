/** Rules about one object of the outcome and those it names. */
import { checkPoolMember, checkVip } from './balance-rule.ts'
import { checkBgpNetwork, checkBgpPeer } from './bgp-rule.ts'
import { checkDhcpHost, checkDhcpSubnet } from './dhcp-rule.ts'
import { TopologyError } from './error.ts'
import { checkTunnelZone, checkZoneMember } from './host-rule.ts'
import { referenceMark } from './mark.ts'
import { checkMirror } from './mirror-rule.ts'
import type { Binding, Network, TraceRequest, Uplink } from './model.ts'
import type { Entry, Indexed } from './objects.ts'
import { checkCondition, checkRule } from './policy-rule.ts'
import { checkAddress, checkPool } from './pool-rule.ts'
import { checkPort } from './port-rule.ts'
import { checkRoute, routerPortOf } from './route-rule.ts'
import type { Change } from './store.ts'

/** @throws TopologyError for the first rule that `entry` breaks. */
export function checkObject({ kind, value }: Entry, outcome: Indexed): void {
  switch (kind) {
    case 'host':
    case 'bridge':
    case 'router':
    case 'endpoint':
    case 'chain':
    case 'portGroup':
    case 'addressGroup':
    case 'qosPolicy':
    case 'hostAlive':
    case 'portActive':
    case 'learnedMac':
    case 'learnedNeighbor':
    case 'learnedRoute':
    case 'loadBalancer':
    case 'balancerPool':
    case 'healthMonitor':
      return
    case 'vip':
      checkVip(value, outcome)
      break
    case 'bgpPeer':
      checkBgpPeer(value, outcome)
      break
    case 'bgpNetwork':
      checkBgpNetwork(value)
      break
    case 'poolMember':
      checkPoolMember(value)
      break
    case 'tunnelZone':
      checkTunnelZone(value)
      break
    case 'zoneMember':
      checkZoneMember(value, outcome)
      break
    case 'dhcpSubnet':
      checkDhcpSubnet(value)
      break
    case 'dhcpHost':
      checkDhcpHost(value, outcome)
      break
    case 'traceRequest':
      checkTraceRequest(value)
      break
    case 'mirror':
      checkMirror(value)
      break
    case 'rule':
      checkRule(value)
      break
    case 'port':
      checkPort(value, outcome)
      break
    case 'route':
      checkRoute(value, outcome)
      break
    case 'binding':
      checkBinding(value, outcome)
      break
    case 'pool':
      checkPool(value)
      break
    case 'address':
      checkAddress(value, outcome)
      break
    case 'network':
      checkNetwork(value, outcome)
      break
    case 'uplink':
      checkUplink(value, outcome)
      break
  }
}

/** Objects whose rules look at what `change` changed. */
export function dependentsOf(change: Change, outcome: Indexed): Iterable<Entry> {
  const { kind, id } = change
  if (kind === 'port' || kind === 'dhcpSubnet' || kind === 'balancerPool')
    return outcome.holders(referenceMark(kind, id))
  if (kind === 'pool' && change.before?.subnet !== change.value?.subnet) {
    return outcome.holders(referenceMark(kind, id))
  }
  return []
}

/** A condition is looked at where the packet enters: what is not known there cannot be asked. */
function checkTraceRequest({ id, condition = {} }: TraceRequest): void {
  checkCondition(`traceRequest ${id}`, condition)
  const late = ['flow', 'dstRewritten', 'outPorts', 'outPortGroup', 'icmpDataSrc', 'icmpDataDst']
  const field = late.find((name) => Object.hasOwn(condition, name))
  if (field === undefined) return
  const problem = 'is not known where a packet enters; ask for other fields'
  throw invalid(`traceRequest ${id}: condition.${field}: ${problem}`)
}

function checkBinding({ id }: Binding, outcome: Indexed): void {
  const peer = outcome.get('port', id)?.peer
  if (peer === undefined) return
  throw invalid(`binding ${id}: the port is linked to port ${peer}; unlink it first`)
}

function checkNetwork({ id, router, routerPort }: Network, outcome: Indexed): void {
  if (routerPort === undefined) return
  if (router !== undefined && routerPortOf(routerPort, router, outcome) !== undefined) return
  const message = `network ${id}: routerPort ${routerPort} is not of its router; name one that is`
  throw invalid(message)
}

function checkUplink({ id, router }: Uplink, outcome: Indexed): void {
  if (routerPortOf(id, router, outcome) !== undefined) return
  throw invalid(`uplink ${id}: port ${id} is not of router ${router}; name the router that has it`)
}

function invalid(message: string): TopologyError {
  return new TopologyError('INVALID', message)
}
