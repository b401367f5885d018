import test from 'ava'
import { Engine } from './engine.ts'
import { testServices } from './service-suite.ts'

testServices(test, { datapath: 'ebpf', open: () => Engine.open(), meters: true })
