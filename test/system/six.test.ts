import test from 'ava'
import { Engine } from './engine.ts'
import { testSix } from './six-suite.ts'

testSix(test, { datapath: 'ebpf', open: () => Engine.open() })
