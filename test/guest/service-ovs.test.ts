/** Runs in a guest (test/vm): DHCP, path MTU and traces on the kernel module, with real sockets. */
import { spawn, spawnSync } from 'node:child_process'
import test from 'ava'
import { type Machine, testServices } from '../system/service-suite.ts'

const guest: Machine = {
  async run(command, ...args) {
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
    return { code: status ?? -1, stdout, stderr }
  },
  spawn: (command, ...args) => spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }),
  async close() {},
}

testServices(test, { datapath: 'ovs', open: async () => guest, meters: false })
