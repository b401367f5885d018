import type { Entry, Indexed } from './objects.ts'
import type { Change } from './store.ts'
export function checkObject(_entry: Entry, _change: Change, _outcome: Indexed): void {}
export function dependentsOf(_change: Change, _outcome: Indexed): readonly Entry[] {
  return []
}
