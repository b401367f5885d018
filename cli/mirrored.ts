/**
 * What devices say of objects that name them: their mirrors at each point, a router's load balancer.
 * To set them on the device changes those objects.
 */
import type { Change, Client, Item } from './client.ts'
import type { Split } from './collection.ts'
import { at, type Field } from './field.ts'

/** The original's words for its lists of mirrors. */
export const mirrorPoints: Readonly<Record<string, unknown>> = {
  in: 'preIn',
  'post-in-filter': 'postIn',
  'pre-out-filter': 'preOut',
  out: 'postOut',
}

const mirrorFields = Object.entries(mirrorPoints).map(([word, point]) => ({
  field: listed(`${word}-mirrors`, 'mirror'),
  point,
}))

/** `in-mirrors` and its like; bridges and routers have two of them, ports all. */
export const portMirrors: readonly Field[] = mirrorFields.map(({ field }) => field)
export const deviceMirrors = portMirrors.filter(({ name }) => /^(in|out)-/.test(name))
export const balancer: Field = listed('load-balancer', 'load-balancer')

/** Ids that the list of devices has put into the item; kept in a field of that name until `splitNaming`. */
function listed(name: string, refers: string): Field {
  return {
    name,
    refers,
    read: (item) => {
      const ids = item[name]
      return Array.isArray(ids) && ids.length > 0 ? ids.join(',') : undefined
    },
    write: ({ text }) => ({ [name]: text === undefined ? [] : text.split(',') }),
  }
}

/** Puts into devices what names them. */
export async function withNaming(client: Client, items: readonly Item[]): Promise<readonly Item[]> {
  if (items.length === 0) return items
  const [mirrors, balancers] = await Promise.all([
    client.list('mirror'),
    client.list('loadBalancer'),
  ])
  if (mirrors.length === 0 && balancers.length === 0) return items
  return items.map((item) => {
    const naming: Record<string, readonly string[]> = {}
    for (const { field, point } of mirrorFields)
      naming[field.name] = idsOf(mirrors, (one) => isAt(one, item.id, point))
    naming[balancer.name] = idsOf(balancers, (one) => one.router === item.id)
    return { ...item, ...naming }
  })
}

function idsOf(all: readonly Item[], isSo: (one: Item) => boolean): readonly string[] {
  return all.filter(isSo).map(({ id }) => id)
}

function isAt(mirror: Item, device: string, point: unknown): boolean {
  return at(mirror, 'device.id') === device && mirror.point === point
}

/**
 * The changes of mirrors and load balancers that a change of a device stands for, and what is left
 * of that change.
 */
export async function splitNaming(
  client: Client,
  kind: string,
  id: string,
  patch: Readonly<Record<string, unknown>>,
): Promise<Split> {
  const own: Record<string, unknown> = { ...patch }
  const others: Change[] = []
  for (const { field, point } of mirrorFields) {
    const wanted = take(own, field.name)
    if (wanted === undefined) continue
    for (const mirror of await client.list('mirror'))
      if (isAt(mirror, id, point) && !wanted.includes(mirror.id))
        others.push({ op: 'patch', kind: 'mirror', id: mirror.id, value: { device: null } })
    for (const one of wanted)
      others.push({ op: 'patch', kind: 'mirror', id: one, value: { device: { kind, id }, point } })
  }
  const wanted = take(own, balancer.name)
  if (wanted !== undefined) {
    for (const one of await client.list('loadBalancer', { router: id }))
      if (!wanted.includes(one.id))
        others.push({ op: 'patch', kind: 'loadBalancer', id: one.id, value: { router: null } })
    for (const one of wanted)
      others.push({ op: 'patch', kind: 'loadBalancer', id: one, value: { router: id } })
  }
  return { own, others }
}

function take(patch: Record<string, unknown>, name: string): readonly string[] | undefined {
  const value = patch[name]
  delete patch[name]
  return Array.isArray(value) ? value.map(String) : undefined
}
