import test from 'ava'
import { Engine } from './engine.ts'
import { testL2 } from './l2-suite.ts'

testL2(test, { datapath: 'ebpf', open: () => Engine.open() })
