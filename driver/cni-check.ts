/** CNI's CHECK: what ADD has answered, compared with what there is. */
import type { ContainerLinks } from '../datapath/link.ts'
import { formatMac, parseCidr, parseMac } from '../packet/address.ts'
import { formatCidr6, networkOf6, parseCidr6 } from '../packet/address6.ts'
import type { Endpoint } from '../topology/model.ts'
import { CniError } from './cni-error.ts'
import { type CniConfig, type CniRequest, readWishes } from './cni-request.ts'
import type { DriverContext } from './context.ts'

interface Checked {
  readonly context: DriverContext
  readonly request: CniRequest
  readonly config: CniConfig
  readonly endpoint: Endpoint | undefined
  readonly container: ContainerLinks
}

/** @throws CniError code `differs` that says what is not as it was; `unknownContainer` */
export function checkAttachment(checked: Checked): void {
  const { context, request, endpoint, container } = checked
  const { ifname = '', previous } = request
  if (endpoint?.interface === undefined)
    throw new CniError('unknownContainer', `container ${request.container}: nothing is attached`)
  if (previous === undefined) throw new CniError('invalidConfig', 'prevResult: is missing')
  if (context.store.get('binding', endpoint.id) === undefined)
    throw differs(`port ${endpoint.id.slice(0, 12)} is not bound to ${endpoint.interface}`)
  if (context.links.find(endpoint.interface)?.up !== true)
    throw differs(`interface ${endpoint.interface} of the host is gone, or down`)
  const link = container.find(ifname)
  if (link === undefined) throw differs(`the container has no interface ${ifname}`)
  if (!link.up) throw differs(`interface ${ifname} is down`)
  const at = previous.interfaces.findIndex((one) => one.name === ifname && one.sandbox)
  const { mac = endpoint.mac } = previous.interfaces[at] ?? {}
  if (macText(mac) !== link.mac) throw differs(`interface ${ifname} has ${link.mac}, not ${mac}`)
  checkAddresses(checked, at)
  checkPorts(checked, endpoint)
}

function checkAddresses({ request, container }: Checked, at: number): void {
  const { ifname = '', previous } = request
  const addresses = container.addresses(ifname).map(canonical)
  // Results of CNI before 0.3 do not say which interface has an address.
  const own = previous?.ips.filter((ip) => ip.interface === undefined || ip.interface === at) ?? []
  for (const { address } of own)
    if (!addresses.includes(canonical(address)))
      throw differs(`interface ${ifname} has not the address ${address}`)
  const routes = container.routes(ifname).map(canonical)
  for (const { dst } of previous?.routes ?? [])
    if (!routes.includes(canonical(dst))) throw differs(`there is no route to ${dst} by ${ifname}`)
}

function checkPorts({ config, request }: Checked, { publications }: Endpoint): void {
  for (const { hostPort, containerPort, protocol } of readWishes(config, request.args)
    .portMappings) {
    const isThere = publications.some(
      (one) =>
        one.port === containerPort &&
        one.protocol === protocol &&
        (hostPort === 0 || one.hostPort === hostPort),
    )
    if (!isThere) throw differs(`port ${hostPort}->${containerPort}/${protocol} is not published`)
  }
}

function macText(text: string): string {
  const mac = parseMac(text)
  return mac === undefined ? text : formatMac(mac)
}

/** One text for one network. */
function canonical(cidr: string): string {
  const six = parseCidr6(cidr)
  if (six === undefined) return parseCidr(cidr) === undefined ? cidr : cidr.toLowerCase()
  const isDefault = six.prefixLength === 0
  return formatCidr6(isDefault ? { address: networkOf6(six), prefixLength: 0 } : six)
}

function differs(what: string): CniError {
  return new CniError('differs', what)
}
