/** Which devices have mirrors, kept as the store says. Each change pushes the tags of its device. */
import type { Mirror } from '../topology/model.ts'
import type { Change } from '../topology/store.ts'
import type { VirtualBridge } from './bridge.ts'
import { noteDevice } from './facts.ts'
import { compileMirror, type MirrorPoints, type VirtualMirror } from './mirror.ts'
import type { VirtualPort } from './port.ts'
import type { VirtualRouter } from './router.ts'
import type { Devices } from './services.ts'
import type { Tag } from './tag.ts'

type Mirrored = VirtualBridge | VirtualRouter | VirtualPort

export class Mirrors {
  /** In the order of their ids, so that copies always have the same order. */
  #mirrors: readonly Mirror[] = []
  readonly #compiled = new Map<string, VirtualMirror>()
  #attached: ReadonlyMap<Mirrored, readonly VirtualMirror[]> = new Map()

  /** Follows a batch, after the devices have. */
  apply(changes: readonly Change[], devices: Devices, tags: Tag[]): void {
    const changed = changes.filter((change) => change.kind === 'mirror')
    if (changed.length > 0) this.#change(changed)
    if (this.#mirrors.length === 0 && this.#attached.size === 0) return
    this.#attach(devices, tags)
  }

  #change(changes: readonly Change<'mirror'>[]): void {
    const all = new Map(this.#mirrors.map((mirror) => [mirror.id, mirror]))
    for (const { id, value } of changes)
      if (value === undefined) all.delete(id)
      else all.set(id, value)
    this.#mirrors = [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  #attach(devices: Devices, tags: Tag[]): void {
    const wanted = new Map<Mirrored, VirtualMirror[]>()
    for (const mirror of this.#mirrors) {
      const device = deviceOf(mirror, devices)
      const to = devices.ports.get(mirror.toPort)
      if (device === undefined || to === undefined) continue
      const list = wanted.get(device) ?? []
      list.push(this.#compile(mirror, to))
      wanted.set(device, list)
    }
    for (const device of new Set([...this.#attached.keys(), ...wanted.keys()])) {
      const list = wanted.get(device)
      if (isSame(this.#attached.get(device), list)) continue
      device.mirrors = list && pointsOf(list)
      noteDevice(device, tags)
      // A flood reaches a port with mirrors by another way than one without.
      if ('kind' in device && device.kind === 'bridge') tags.push(device.bridge.floodTag)
    }
    this.#attached = wanted
    const ids = new Set(this.#mirrors.map(({ id }) => id))
    for (const id of this.#compiled.keys()) if (!ids.has(id)) this.#compiled.delete(id)
  }

  /** The same as before while mirror and port are. */
  #compile(mirror: Mirror, to: VirtualPort): VirtualMirror {
    const known = this.#compiled.get(mirror.id)
    if (known?.to === to && JSON.stringify(known.mirror) === JSON.stringify(mirror)) return known
    const compiled = compileMirror(mirror, to)
    this.#compiled.set(mirror.id, compiled)
    return compiled
  }
}

function deviceOf({ device }: Mirror, { bridges, routers, ports }: Devices): Mirrored | undefined {
  if (device === undefined) return undefined
  return { bridge: bridges, router: routers, port: ports }[device.kind].get(device.id)
}

function pointsOf(list: readonly VirtualMirror[]): MirrorPoints {
  const at = (point: Mirror['point']) => list.filter(({ mirror }) => mirror.point === point)
  return { preIn: at('preIn'), postIn: at('postIn'), preOut: at('preOut'), postOut: at('postOut') }
}

function isSame(
  a: readonly VirtualMirror[] | undefined,
  b: readonly VirtualMirror[] | undefined,
): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.length === b.length && a.every((mirror, at) => mirror === b[at])
}
