import test from 'ava'
import { testBalance } from './balance-suite.ts'
import { Engine } from './engine.ts'

testBalance(test, { datapath: 'ebpf', open: () => Engine.open() })
