import { exitCodeOf, Failure } from '../base/failure.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { checkFigures, checkJobs, levelOf, pluginLine, unknownLine } from '../monitoring/check.ts'
import { withoutPasswords } from '../postgres/connection-url.ts'
import { printable, printableJson } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, type Surroundings, withControl } from './command-context.ts'

/** `yardmaster check` */
export const checkGroup: Group = (program) => {
  program
    .command('check')
    .description('what fails, hangs or is late, as a Nagios plugin says it: one line, exit 0, 1, 2, or 3 for unknown')
    .option('--job <pattern>', 'only jobs whose name is like this, with * and ?: public.*')
    .addHelpText('after', "\nExample:\n  yardmaster check --job 'dwh:public.*'")
    .action(action(check))
}

async function check(context: CommandContext, flags: { job?: string }): Promise<number> {
  const pattern = flags.job ?? null
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const [figures, alerts] = [await checkFigures(control, pattern), await checkJobs(control, pattern)]
    if (pattern !== null && figures.jobs === 0) {
      throw new Failure('replication_unknown', {
        message: `No job has a name like '${printable(pattern)}'.`,
        object: printable(pattern),
      })
    }
    const level = levelOf(alerts)
    if (context.terminal.json) context.terminal.document({ level, alerts, ...figures })
    else context.terminal.line(pluginLine(level, alerts, figures))
    return level
  })
}

/** A check that could not be made: one line on stdout as for every other state, and what to do on stderr. */
export function reportUnknown(failure: Failure, { out, err }: Surroundings, json: boolean): 3 {
  const { code, message, remedy } = failure
  if (json) {
    const document = { level: 3, alerts: [], error: failure }
    out.write(`${printableJson(withoutPasswords(JSON.stringify(document)))}\n`)
    return 3
  }
  out.write(`${printable(withoutPasswords(unknownLine(`[${code}] ${message}`)))}\n`)
  if (exitCodeOf(failure) === 2) err.write(`${printable(withoutPasswords(`Remedy: ${remedy}`))}\n`)
  return 3
}
