/**
 * The scripts' language for mirrors:
 *
 *   mirror ID on KIND DEVICE POINT to PORT [FIELD=VALUE…]      match ID FIELD=VALUE…
 *
 * POINT is preIn, postIn, preOut or postOut; `match` adds another condition.
 */
import { type Mirror, schemas } from '../../topology/model.ts'
import { readCondition, type Words } from './script-policy.ts'
import { put, type World } from './world.ts'

export const mirrorChanges: Readonly<Record<string, (world: World, words: Words) => void>> = {
  mirror(world, { plain: [id = '', , kind, device = '', point, , toPort = ''], options }) {
    const conditions = options.size === 0 ? {} : { conditions: [readCondition(options)] }
    const value = { id, device: { kind, id: device }, point, toPort, ...conditions }
    world.put(put('mirror', schemas.mirror.parse(value)))
  },

  match(world, { plain: [id = ''], options }) {
    const mirror: Mirror | undefined = world.topology.get('mirror', id)
    const conditions = [...(mirror?.conditions ?? []), readCondition(options)]
    world.put(put('mirror', schemas.mirror.parse({ ...mirror, conditions })))
  },
}
