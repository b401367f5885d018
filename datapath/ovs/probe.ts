/**
 * What this kernel's module can do, found out by trying, since distributions put features into older
 * kernels and leave some out. Actions are tried in a flow that no packet matches.
 */
import { type Capabilities, DatapathError } from '../datapath.ts'
import { findAttribute, type PayloadWriter, payloadU32 } from '../netlink.ts'
import { attributesOf, type Module } from './module.ts'
import {
  actionAttr,
  checkLengthAttr,
  ctAttr,
  datapathAttr,
  flowAttr,
  flowCommand,
  keyAttr,
  meterAttr,
  meterCommand,
  vportAttr,
  vportCommand,
} from './protocol.ts'

export interface Probed {
  readonly capabilities: Capabilities
  /** For people. */
  readonly features: readonly string[]
  /** Meters have lower numbers; 0 where there are none. */
  readonly metersMax: number
}

/** @throws DatapathError when the kernel does not answer at all */
export function probeModule(module: Module): Probed {
  const metersMax = countMeters(module)
  const capabilities = {
    meter: metersMax > 0 && accepts(module, (list) => list.attributeU32(actionAttr.meter, 1)),
    clone: accepts(module, (list) =>
      list.nest(actionAttr.clone, (inner) => inner.attributeU32(actionAttr.output, 0)),
    ),
    checkPacketLength: accepts(module, (list) =>
      list.nest(actionAttr.checkLength, (check) =>
        check
          .attribute(checkLengthAttr.length, Uint8Array.of(100, 0))
          .nest(checkLengthAttr.greater, () => {})
          .nest(checkLengthAttr.lessEqual, () => {}),
      ),
    ),
    ct: accepts(module, (list) =>
      list.nest(actionAttr.ct, (ct) => ct.attribute(ctAttr.zone, Uint8Array.of(1, 0))),
    ),
  }
  const cache = payloadU32(findAttribute(module.attributes(), datapathAttr.masksCacheSize))
  const features = [
    ...(capabilities.meter ? [`meters up to ${metersMax}`] : ['no meters']),
    ...(capabilities.ct ? ['ct'] : ['no ct']),
    ...(capabilities.clone ? ['clone'] : ['no clone']),
    ...(capabilities.checkPacketLength ? ['check_pkt_len'] : ['no check_pkt_len']),
    ...(cache === undefined ? [] : [`masks cache of ${cache}`]),
    ...(hasUpcallStats(module) ? ['upcall statistics'] : []),
  ]
  return { capabilities, features, metersMax }
}

/** How many meters there can be; 0 where the module has none. */
function countMeters(module: Module): number {
  const family = module.families.meter
  if (family === 0) return 0
  const payload = module.payload(meterCommand.features)
  const [reply] = module.query('ask for meters', family, payload, ['EOPNOTSUPP', 'EINVAL'])
  if (reply === undefined) return 0
  return payloadU32(findAttribute(attributesOf(reply), meterAttr.metersMax)) ?? 0
}

/** Whether a flow with these actions is taken. */
function accepts(module: Module, write: (list: PayloadWriter) => unknown): boolean {
  const payload = withKey(module.payload(flowCommand.create))
  payload.nest(flowAttr.actions, write).attribute(flowAttr.probe, nothing)
  try {
    module.change('try an action', module.families.flow, payload)
  } catch (error) {
    if (error instanceof DatapathError) return false
    throw error
  }
  const removal = withKey(module.payload(flowCommand.remove))
  module.change('remove what was tried', module.families.flow, removal, ['ENOENT'])
  return true
}

/** Of an IPv4 packet that is looked up again under a number that is never given out. */
function withKey(payload: PayloadWriter): PayloadWriter {
  return payload.nest(flowAttr.key, (key) =>
    key
      .attributeU32(keyAttr.recirculation, 0xffff_fffe)
      .attributeU32(keyAttr.inPort, 0)
      .attribute(keyAttr.ethernet, new Uint8Array(12))
      .attribute(keyAttr.etherType, Uint8Array.of(8, 0))
      .attribute(keyAttr.ipv4, new Uint8Array(12)),
  )
}

const nothing = new Uint8Array(0)

/** The module's own vport, 0, is always there. */
function hasUpcallStats(module: Module): boolean {
  const payload = module.payload(vportCommand.get).attributeU32(vportAttr.number, 0)
  const [reply] = module.query('read a vport', module.families.vport, payload, ['ENODEV'])
  if (reply === undefined) return false
  return findAttribute(attributesOf(reply), vportAttr.upcallStats) !== undefined
}
