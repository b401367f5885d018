/** Runs in a guest (test/vm): load balancing on the kernel module, with real sockets. */
import test from 'ava'
import { testBalance } from '../system/balance-suite.ts'
import { guest } from '../system/stage.ts'

testBalance(test, { datapath: 'ovs', open: async () => guest })
