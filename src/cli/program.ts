import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { exitCodeOf, Failure } from '../base/failure.ts'
import { describeOption, type OptionDeclaration, programOptions } from '../config/program-options.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { attach } from './action.ts'
import type { Surroundings } from './command-context.ts'
import { databaseGroup } from './database.ts'
import { demoGroup } from './demo.ts'
import { doctorGroup } from './doctor.ts'
import { helpGroup } from './help.ts'
import { migrateGroup } from './migrate.ts'
import { replicationGroup } from './replication.ts'
import { runGroup } from './run.ts'

/** The whole command line, for parsing and for the reference page. */
export function buildProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const program = new Command('yardmaster')
    .description('The recurring work between PostgreSQL databases.')
    .version(version)
    .showSuggestionAfterError()
    .helpCommand(false)
    .exitOverride()
  for (const group of [databaseGroup, replicationGroup, runGroup, doctorGroup, migrateGroup, demoGroup, helpGroup])
    group(program)
  addGlobalOptions(program)
  return program
}

/** Every command takes the global options, before or behind its name. */
function addGlobalOptions(command: Command): void {
  for (const option of Object.values<OptionDeclaration>(programOptions)) {
    const taken = command.options.some((one) => one.long === option.flag.split(' ')[0])
    if (!taken) command.option(option.flag, describeOption(option))
  }
  for (const child of command.commands) {
    child.exitOverride().showSuggestionAfterError()
    addGlobalOptions(child)
  }
}

/** Runs one command line and resolves to its exit code. Never throws. */
export async function runProgram(args: readonly string[], surroundings: Surroundings): Promise<number> {
  const json = args.includes('--json')
  const debug = args.includes('debug')
  const program = buildProgram()
  let code = 0
  attach(program, surroundings, (given) => {
    code = given
  })
  configureOutput(program, surroundings, json)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    const failure = asFailure(error, surroundings)
    report(failure, surroundings, json, debug)
    return exitCodeOf(failure)
  }
}

function configureOutput(command: Command, surroundings: Surroundings, json: boolean): void {
  command.configureOutput({
    writeOut: (text) => surroundings.out.write(text),
    // What commander says of wrong usage comes back to us as an error; it is printed once, in our form.
    writeErr: (text) => (json || text.startsWith('error:') ? undefined : surroundings.err.write(text)),
  })
  for (const child of command.commands) configureOutput(child, surroundings, json)
}

function asFailure(error: unknown, surroundings: Surroundings): Failure {
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, '')
    return new Failure('wrong_usage', {
      message: error.code === 'commander.help' ? 'No command was named.' : message,
      object: error.code,
    })
  }
  if (surroundings.signal.aborted && !(error instanceof Failure)) {
    return new Failure('cancelled', { message: 'Cancelled.', cause: error })
  }
  return toFailure(error, { side: 'control' })
}

/** `Error [code] object: message` and the remedy on stderr; with --json the error object on stdout. */
function report(failure: Failure, surroundings: Surroundings, json: boolean, debug: boolean): void {
  if (json) surroundings.out.write(`${JSON.stringify({ error: failure })}\n`)
  else {
    const object = failure.object === null || failure.message.includes(failure.object) ? '' : ` ${failure.object}:`
    surroundings.err.write(`Error [${failure.code}]${object} ${failure.message}\n`)
    surroundings.err.write(`Remedy: ${failure.remedy}\nMore: yardmaster help error ${failure.code}\n`)
  }
  if (debug)
    surroundings.err.write(
      `${failure.stack}\n${failure.cause instanceof Error ? `Cause: ${failure.cause.stack}\n` : ''}`,
    )
}
