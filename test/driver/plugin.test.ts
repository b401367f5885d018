import { existsSync, readFileSync } from 'node:fs'
import test from 'ava'
import { describeSettings } from '../../agent/settings.ts'

interface Entry {
  readonly name: string
  readonly description: string
  readonly source: string
  readonly value: string
  readonly settable: readonly string[]
}

const root = new URL('../../..', import.meta.url).pathname
const plugin: {
  readonly interface: { readonly types: readonly string[]; readonly socket: string }
  readonly mounts: readonly Entry[]
  readonly env: readonly Entry[]
} = JSON.parse(readFileSync(`${root}/plugin.json`, 'utf8'))

test('the managed plugin offers both drivers on the socket that Docker looks for', (t) => {
  t.deepEqual(plugin.interface.types, ['docker.networkdriver/1.0', 'docker.ipamdriver/1.0'])
  t.is(plugin.interface.socket, 'midonet.sock')
})

test('every setting of the agent can be set on the plugin, and has an explanation', (t) => {
  const names = plugin.env.map(({ name }) => name)
  for (const [variable] of describeSettings()) t.true(names.includes(variable), variable)
  for (const { description, settable } of plugin.env) {
    t.true(description.length > 0)
    t.deepEqual(settable, ['value'])
  }
})

test('mounts are of what every host has: another one would keep the plugin from starting', (t) => {
  for (const { source, settable } of plugin.mounts) {
    t.true(existsSync(source), source)
    t.deepEqual(settable, ['source'])
  }
})
