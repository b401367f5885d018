/** Rules of type redirect, in the original's words. */
import { textOf } from './collection.ts'
import { missing } from './error.ts'
import { at, type Field, readChoice, readNumber } from './field.ts'

const flags = { true: true, false: false } as const

function flagField(name: string, read: Field['read']): Field {
  return { name, values: Object.keys(flags), read }
}

/** `push-vlan` is the VLAN, or with 8192 for each step the priority above it. */
export const redirectFields: readonly Field[] = [
  { name: 'target-port', refers: 'port', read: (item) => textOf(at(item, 'action.port')) },
  flagField('ingress', (item) => {
    const direction = at(item, 'action.direction')
    return direction === undefined ? undefined : String(direction === 'in')
  }),
  flagField('fail-open', (item) => textOf(at(item, 'action.failOpen'))),
  flagField('pop-vlan', (item) => textOf(at(item, 'action.popVlan'))),
  {
    name: 'push-vlan',
    read: (item) => {
      const vlan = at(item, 'action.pushVlan')
      const priority = at(item, 'action.pushPriority') ?? 0
      return vlan === undefined ? undefined : String(Number(vlan) + Number(priority) * 0x2000)
    },
  },
]

/** What an action of another kind has not, for a merge patch. */
export const redirectParts = {
  port: null,
  direction: null,
  failOpen: null,
  popVlan: null,
  pushVlan: null,
  pushPriority: null,
} as const

/** The action that is typed. @throws CliError code `SYNTAX` */
export function redirectOf(word: (name: string) => string | undefined) {
  const flag = (name: string) => {
    const text = word(name)
    return text === undefined ? null : readChoice(name, text, flags)
  }
  const pushed = word('push-vlan')
  const tag = pushed === undefined ? undefined : readNumber('push-vlan', pushed)
  const priority = tag === undefined ? 0 : Math.floor(tag / 0x2000)
  return {
    kind: 'redirect',
    port: word('target-port') ?? missing('target-port PORT'),
    direction: flag('ingress') === true ? 'in' : 'out',
    failOpen: flag('fail-open'),
    popVlan: flag('pop-vlan'),
    pushVlan: tag === undefined ? null : tag % 0x2000,
    pushPriority: priority === 0 ? null : priority,
  }
}
