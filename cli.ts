#!/usr/bin/env node
/** The `midonet` command. What it does is loaded only when it is asked for: `cli` must start fast. */

const [word, ...rest] = process.argv.slice(2)
process.exitCode =
  word === 'cli'
    ? await (await import('./cli/main.js')).runCli(rest)
    : await (await import('./agent/command.js')).runCommand(() => import('./main.js'))
