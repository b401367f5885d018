/** JSON Merge Patch, RFC 7396: null removes, objects merge, everything else replaces. */

/** `target` as `patch` says. Neither is changed; keys such as `__proto__` are keys like any. */
export function mergePatch(target: unknown, patch: unknown, depth = 0): unknown {
  // Beyond any depth that the model has: the schema then refuses what is left.
  if (!isObject(patch) || depth > depthMax) return patch
  const merged = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key)
    else merged.set(key, mergePatch(merged.get(key), value, depth + 1))
  }
  return Object.fromEntries(merged)
}

const depthMax = 32

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
