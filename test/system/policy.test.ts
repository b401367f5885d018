import test from 'ava'
import { Engine } from './engine.ts'
import { testPolicy } from './policy-suite.ts'

testPolicy(test, { datapath: 'ebpf', open: () => Engine.open() })
