import { readFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { exitCodeOf, Failure } from '../base/failure.ts'
import { describeOption, type OptionDeclaration, programOptions } from '../config/program-options.ts'
import { attach } from './action.ts'
import { alertGroup } from './alert.ts'
import { bindingGroup } from './binding.ts'
import { checkGroup, reportUnknown } from './check.ts'
import type { Surroundings } from './command-context.ts'
import { databaseGroup } from './database.ts'
import { demoGroup } from './demo.ts'
import { doctorGroup } from './doctor.ts'
import { asFailure, report } from './failure-report.ts'
import { helpGroup } from './help.ts'
import { hostGroup } from './host.ts'
import { importGroup } from './import.ts'
import { jobGroup } from './job.ts'
import { limitGroup } from './limit.ts'
import { migrateGroup } from './migrate.ts'
import { postprocessGroup } from './postprocess.ts'
import { replicationGroup } from './replication.ts'
import { runGroup } from './run.ts'
import { runDueGroup } from './run-due.ts'
import { siteGroup } from './site.ts'
import { upGroup } from './up.ts'
import { asHelp, UsageCommand } from './usage.ts'
import { workerGroup } from './worker.ts'

/** The whole command line, for parsing and for the reference page. */
export function buildProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const program = new UsageCommand('yardmaster')
    .description('The recurring work between PostgreSQL databases.')
    .version(version)
    .showSuggestionAfterError()
    .helpCommand(false)
    .exitOverride()
  for (const group of [
    databaseGroup,
    replicationGroup,
    jobGroup,
    runGroup,
    runDueGroup,
    bindingGroup,
    hostGroup,
    siteGroup,
    limitGroup,
    importGroup,
    alertGroup,
    postprocessGroup,
    checkGroup,
    workerGroup,
    upGroup,
    doctorGroup,
    migrateGroup,
    demoGroup,
    helpGroup,
  ])
    group(program)
  addGlobalOptions(program)
  return program
}

/** Every command takes the global options, before or behind its name. */
function addGlobalOptions(command: Command): void {
  for (const option of Object.values<OptionDeclaration>(programOptions)) {
    const taken = command.options.some((one) => one.long === option.flag.split(' ')[0])
    if (!taken)
      command.addOption(new Option(option.flag, describeOption(option)).helpGroup('Options of every command:'))
  }
  for (const child of command.commands) {
    child.exitOverride().showSuggestionAfterError().helpCommand(false)
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
  // A plugin has one exit code for everything that keeps it from an answer, wrong usage included.
  let isCheck = args.find((arg) => !arg.startsWith('-')) === 'check'
  program.hook('preSubcommand', (_program, command) => {
    isCheck = command.name() === 'check'
  })
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    const help = asHelp(error)
    if (help === 'asked') return 0
    // Without a command there is the help, on stderr; a script that reads JSON gets an error.
    if (help === 'no_command' && !json) return 2
    const failure =
      help === 'no_command'
        ? new Failure('wrong_usage', { message: 'No command was named.' })
        : asFailure(error, surroundings.signal)
    if (isCheck) return reportUnknown(failure, surroundings, json)
    report(failure, surroundings, { json, debug })
    return exitCodeOf(failure)
  }
}

function configureOutput(command: Command, surroundings: Surroundings, json: boolean): void {
  command.configureOutput({
    writeOut: (text) => surroundings.out.write(text),
    // Only the help of a command line without a command.
    writeErr: (text) => (json ? undefined : surroundings.err.write(text)),
  })
  for (const child of command.commands) configureOutput(child, surroundings, json)
}
