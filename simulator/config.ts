/** What ports are configured to be, read and compared. */
import { parseIpv6 } from '../packet/address.ts'
import { type Words6, wordsOf6 } from '../packet/address6.ts'
import type { Port } from '../topology/model.ts'

/** IPv6 addresses in words. */
export function wordsOf(addresses: readonly string[] = []): readonly Words6[] {
  return addresses.flatMap((text) => {
    const address = parseIpv6(text)
    return address === undefined ? [] : [wordsOf6(address)]
  })
}

/** Whether two configurations of a port differ only in what can be changed in place. */
export function isSameDevice(a: Port, b: Port): boolean {
  return JSON.stringify(deviceOf(a)) === JSON.stringify(deviceOf(b))
}

/** A port without its stations, chains, groups and policy. */
function deviceOf(port: Port) {
  const { inboundChain: _in, outboundChain: _out, portGroups: _groups, ...other } = port
  const { qosPolicy: _policy, ...rest } = other
  if (rest.kind === 'router') return rest
  const { stations: _stations, ...device } = rest
  return device
}
