/**
 * The routes of routers, of both families: configured ones, and those that ports bring. A route
 * that leaves by a port stands in its router's table while the port is active.
 */
import type { Route } from '../topology/model.ts'
import { compileRoute } from './compile.ts'
import { compileRoute6 } from './compile6.ts'
import type { RouteEntry } from './route-table.ts'
import type { RouteEntry6 } from './route-table6.ts'
import type { VirtualRouter, VirtualRouterPort } from './router.ts'
import type { Tag } from './tag.ts'

/** One of both is there. */
interface Configured {
  readonly router: VirtualRouter
  readonly entry: RouteEntry | undefined
  readonly entry6: RouteEntry6 | undefined
}

/** The routes that the store holds, by id. */
export class ConfiguredRoutes {
  readonly #routes = new Map<string, Configured>()

  add(value: Route, router: VirtualRouter, port: VirtualRouterPort | undefined, tags: Tag[]): void {
    const entry6 = compileRoute6(value, port)
    const entry = entry6 === undefined ? compileRoute(value, port) : undefined
    this.#routes.set(value.id, { router, entry, entry6 })
    if (entry !== undefined) port?.routes.add(entry)
    if (entry6 !== undefined) port?.six?.routes.add(entry6)
    if (value.action === 'port' && port?.routesUp !== true) return
    if (entry !== undefined) tags.push(router.routes.add(entry))
    if (entry6 !== undefined) tags.push(router.routes6.add(entry6))
  }

  remove(id: string, tags: Tag[]): void {
    const known = this.#routes.get(id)
    if (known === undefined) return
    const { router, entry, entry6 } = known
    this.#routes.delete(id)
    if (entry !== undefined) {
      entry.port?.routes.delete(entry)
      pushKnown(tags, router.routes.remove(entry))
    }
    if (entry6 !== undefined) {
      entry6.port?.six?.routes.delete(entry6)
      pushKnown(tags, router.routes6.remove(entry6))
    }
  }

  /** Routes go on with their port when the port is made anew. */
  move(router: VirtualRouter, port: VirtualRouterPort): void {
    for (const [id, known] of this.#routes) {
      if (known.router !== router) continue
      const { entry, entry6 } = known
      if (entry?.port?.id === port.id) {
        const moved = { ...entry, port }
        this.#routes.set(id, { router, entry: moved, entry6: undefined })
        port.routes.add(moved)
      }
      if (entry6?.port?.id === port.id) {
        const moved = { ...entry6, port }
        this.#routes.set(id, { router, entry: undefined, entry6: moved })
        port.six?.routes.add(moved)
      }
    }
  }
}

/** Puts in the routes to a port's own addresses. */
export function addLocalRoutes(port: VirtualRouterPort, tags: Tag[]): void {
  const { routes, routes6 } = port.router
  for (const route of port.localRoutes) tags.push(routes.add(route))
  for (const route of port.six?.localRoutes ?? []) tags.push(routes6.add(route))
}

/** Takes out all that a port has put in. */
export function removeRoutes(port: VirtualRouterPort, tags: Tag[]): void {
  const { routes, routes6 } = port.router
  const { six, routesUp } = port
  for (const route of port.localRoutes) pushKnown(tags, routes.remove(route))
  for (const route of six?.localRoutes ?? []) pushKnown(tags, routes6.remove(route))
  if (!routesUp) return
  for (const route of port.routes) pushKnown(tags, routes.remove(route))
  for (const route of six?.routes ?? []) pushKnown(tags, routes6.remove(route))
}

function pushKnown(tags: Tag[], tag: Tag | undefined): void {
  if (tag !== undefined) tags.push(tag)
}
