/** The commands of the original, typed to an agent that forwards packets. */
import test from 'ava'
import { Client } from '../../cli/client.ts'
import { check, openSession, readScript } from '../cli/bench.ts'
import { Engine } from './engine.ts'
import { Stage } from './stage.ts'

let stage: Stage

test.before(async () => {
  stage = new Stage(await Engine.open(), 'ebpf')
  await stage.startAgent()
})
test.after.always(() => stage.close())

test.serial('the commands of the original', async (t) => {
  t.timeout(120_000)
  const client = new Client({ socketPath: `${stage.dir}/run/agent.sock` })
  t.teardown(() => client.close())
  await check(t, openSession(client), readScript('reference'))
  t.notRegex(await stage.cli('status'), /PROBLEM/)
})
