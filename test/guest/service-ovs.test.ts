/** Runs in a guest (test/vm): DHCP, path MTU and traces on the kernel module, with real sockets. */
import test from 'ava'
import { testServices } from '../system/service-suite.ts'
import { guest } from '../system/stage.ts'

testServices(test, { datapath: 'ovs', open: async () => guest, meters: false })
