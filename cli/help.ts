/** What `help` says. */
import { catalog, childrenOf } from './catalog.ts'
import { verbWords } from './parse.ts'

/** The whole, or about one collection. */
export function helpText(words: readonly string[]): readonly string[] {
  const [name] = words
  const found = catalog.filter((one) => one.name === name)
  if (found.length === 0) return overview
  return found.flatMap(({ parent, attributes }) => [
    `${parent === undefined ? '' : `${parent} ${parent.toUpperCase()} `}add ${name}`,
    ...attributes
      .filter(({ synonym }) => synonym !== true)
      .map(({ name: attribute, readOnly, values, refers }) => {
        const meaning =
          readOnly === true ? 'read only' : (values?.join('|') ?? refers?.toUpperCase() ?? 'VALUE')
        return `    ${attribute} ${meaning}`
      }),
  ])
}

const overview: readonly string[] = [
  'VERB COLLECTION [OBJECT] [ATTRIBUTE VALUE …]    or the object first:',
  'COLLECTION OBJECT VERB [COLLECTION] [ATTRIBUTE VALUE …]',
  '',
  `verbs        ${verbWords.join(' ')}; their beginnings will do`,
  `collections  ${childrenOf(undefined)
    .map(({ name }) => name)
    .join(' ')}`,
  'objects      an alias (router0, router0:port2), an id, or a name',
  '',
  '    router create name shop',
  '    router router0 add port address 10.1.0.1 net 10.1.0.0/24',
  '    bridge bridge0 add port',
  '    router router0 port port0 set peer bridge0:port0',
  '    chain chain0 add rule src !10.0.0.0/16 type drop',
  '    list router',
  '',
  'describe COLLECTION lists its attributes, help COLLECTION what they take; exit leaves.',
]
