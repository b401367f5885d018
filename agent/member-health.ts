/** Writes down what the forwarding side has found of members of pools. */
import createDebug from 'debug'
import type { MemberHealth } from '../simulator/health.ts'
import type { Store } from '../topology/store.ts'

const log = createDebug('midonet:health')

/** A member that is gone meanwhile, or was changed by others to the same, is left alone. */
export async function writeMemberHealth(
  store: Store,
  { member, status }: MemberHealth,
): Promise<void> {
  try {
    await store.transact((draft) => {
      const known = draft.get('poolMember', member)
      if (known !== undefined && known.status !== status)
        draft.put('poolMember', { ...known, status })
    })
    log('member %s is %s', member, status)
  } catch (error) {
    // It is found again by the next check.
    log('member %s: %s', member, error instanceof Error ? error.message : String(error))
  }
}
