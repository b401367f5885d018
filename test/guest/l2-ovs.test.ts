/** Runs in a guest (test/vm): VLANs, mirrors, services on the kernel module, with real sockets. */
import test from 'ava'
import { testL2 } from '../system/l2-suite.ts'
import { guest } from '../system/stage.ts'

testL2(test, { datapath: 'ovs', open: async () => guest })
