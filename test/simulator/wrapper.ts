/** A datapath that passes everything on, but for what a test wants different. */
import type { Datapath } from '../../datapath/datapath.ts'

export function wrap(inner: Datapath, different: Partial<Datapath>): Datapath {
  return {
    kind: inner.kind,
    capabilities: inner.capabilities,
    features: inner.features,
    addPort: (name) => inner.addPort(name),
    removePort: (number) => inner.removePort(number),
    ports: () => inner.ports(),
    install: (match, actions) => inner.install(match, actions),
    remove: (id) => inner.remove(id),
    stats: (id) => inner.stats(id),
    statsOf: (ids) => inner.statsOf(ids),
    flows: () => inner.flows(),
    setMeter: (id, rate) => inner.setMeter(id, rate),
    removeMeter: (id) => inner.removeMeter(id),
    meters: () => inner.meters(),
    meter: (id) => inner.meter(id),
    execute: (packet, offload, inPort, actions) => inner.execute(packet, offload, inPort, actions),
    receive: (budget, handle) => inner.receive(budget, handle),
    wait: (timeoutMs) => inner.wait(timeoutMs),
    counters: () => inner.counters(),
    close: () => inner.close(),
    ...different,
  }
}
