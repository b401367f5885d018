/** Ids in a text for people: Docker's names in their place where they are known, else shortened. */
import type { DockerNetwork } from '../driver/docker.ts'

/** Docker's ids (64 hex digits), our uplinks' (32) and UUIDs. */
const ids = /\b([0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b/g

/** Networks by their names, endpoints by their containers', all other ids by their first digits. */
export function nameIds(text: string, networks: readonly DockerNetwork[] | undefined): string {
  const names = new Map<string, string>()
  for (const network of networks ?? []) {
    names.set(network.id, network.name)
    for (const { id, container } of network.endpoints)
      if (container !== id) names.set(id, container)
  }
  return text.replace(ids, (id) => names.get(id) ?? id.slice(0, 12))
}
