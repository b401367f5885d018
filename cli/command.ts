#!/usr/bin/env node
/** The program `midonet-cli`. */
import { runCli } from './main.ts'

process.exitCode = await runCli(process.argv.slice(2))
