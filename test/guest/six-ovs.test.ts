/** Runs in a guest (test/vm): IPv6 on the kernel module, with real sockets. */
import test from 'ava'
import { testSix } from '../system/six-suite.ts'
import { guest } from '../system/stage.ts'

testSix(test, { datapath: 'ovs', open: async () => guest })
