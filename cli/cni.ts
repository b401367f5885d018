#!/usr/bin/env node
/** The program `midonet-cni`: what container runtimes run as a plugin of CNI. */
import { runCni } from './cni/command.ts'

process.exitCode = await runCni(process.env, process.stdin, process.stdout)
