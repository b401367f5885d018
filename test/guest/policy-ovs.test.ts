/** Runs in a guest (test/vm): a firewall and NAT on the kernel module, with real sockets. */
import test from 'ava'
import { testPolicy } from '../system/policy-suite.ts'
import { guest } from '../system/stage.ts'

testPolicy(test, { datapath: 'ovs', open: async () => guest })
