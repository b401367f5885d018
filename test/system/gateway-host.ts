/**
 * A host with nothing but a gateway, for gateway.test.ts: a store in memory with two routers.
 * Answers each line of standard input with one of JSON: the uplinks and repairs as they are then.
 */
import { createInterface } from 'node:readline'
import { openLinks } from '../../datapath/rtnetlink.ts'
import { removeAll, startGateway } from '../../gateway/gateway.ts'
import {
  host as hostId,
  openTopology,
  publish,
  putEndpoint,
  putNetwork,
} from '../gateway/topology.ts'

const links = openLinks()
const store = await openTopology((draft) => {
  putNetwork(draft, 'red', 'r1', '10.1.0.0/24')
  putNetwork(draft, 'blue', 'r2', '10.2.0.0/24')
  putEndpoint(draft, 'web', 'red', '10.1.0.5/24', [
    publish('tcp 8080 80'),
    publish('tcp 127.0.0.1:8081 80'),
  ])
})
const gateway = startGateway({ store, links, hostId })

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'remove') {
    await gateway.close()
    await removeAll({ links })
  } else await gateway.settled(store.revision)
  const uplinks = store.list('uplink').map((uplink) => {
    const port = store.get('port', uplink.id)
    const mac = port?.kind === 'router' ? port.mac : ''
    return { ...uplink, mac, address: port?.kind === 'router' ? port.addresses[0] : '' }
  })
  console.log(JSON.stringify({ uplinks, repairs: gateway.repairs, status: gateway.status() }))
}
