import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { loadHostId } from '../../agent/host-id.ts'
import { describeSettings, readSettings } from '../../agent/settings.ts'

const nowhere = '/nonexistent/midonet.json'

function folder(t: { teardown(clean: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'midonet-settings-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return dir
}

test('the environment goes before the file, the file before the defaults', (t) => {
  const file = join(folder(t), 'midonet.json')
  writeFileSync(file, '{"flowLimit": 2000, "runDir": "/run/other"}')
  const settings = readSettings({ MIDONET_FLOW_LIMIT: '3000' }, file)
  t.is(settings.flowLimit, 3000)
  t.is(settings.runDir, '/run/other')
  t.is(settings.store, 'leveldb:/var/lib/midonet/store')
})

test('a state directory of its own takes the store along', (t) => {
  t.is(readSettings({ MIDONET_STATE_DIR: '/srv/m' }, nowhere).store, 'leveldb:/srv/m/store')
})

test('a wrong setting is named with its variable', (t) => {
  const wrong = (env: Record<string, string>) => () => readSettings(env, nowhere)
  t.throws(wrong({ MIDONET_FLOW_LIMIT: 'many' }), { message: /MIDONET_FLOW_LIMIT/ })
  t.throws(wrong({ MIDONET_RUN_DIR: 'run' }), { message: /must be an absolute path/ })
  t.throws(wrong({ MIDONET_DATAPATH: 'magic' }), { code: 'INVALID_SETTING' })
})

test('a file that is no JSON object is refused', (t) => {
  const file = join(folder(t), 'midonet.json')
  writeFileSync(file, '[1]')
  t.throws(() => readSettings({}, file), { message: /is not a JSON object/ })
  writeFileSync(file, '{"unknown": 1}')
  t.throws(() => readSettings({}, file), { code: 'INVALID_SETTING' })
})

test('every setting has a variable, a meaning and a default', (t) => {
  for (const [variable, meaning, value] of describeSettings()) {
    t.regex(variable, /^MIDONET_[A-Z_]+$/)
    t.true(meaning.length > 10 && value !== 'undefined', variable)
  }
})

test('the host id is made once and kept', (t) => {
  const dir = folder(t)
  const id = loadHostId(dir)
  t.regex(id, /^[0-9a-f-]{36}$/)
  t.is(loadHostId(dir), id)
  writeFileSync(join(dir, 'host-id'), 'half')
  t.throws(() => loadHostId(dir), { code: 'INVALID_HOST_ID', message: /restore it, or remove it/ })
})
