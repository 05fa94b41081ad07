import { Failure } from '../base/failure.ts'
import { readPalette } from '../compat/palette.ts'
import { bindingsOf, hostsOf, type PaletteBindings } from '../compat/palette-rows.ts'
import type { Control } from '../control/control.ts'
import { connectDatabase, getDatabase } from '../control/databases.ts'
import { loadFile, scanFile } from '../placement/binding-file.ts'
import { changeBindings, hostNames } from '../placement/bindings.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { changeUnlessRefused, reportChange } from './binding-change.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { importHdbpp } from './import-hdbpp.ts'

interface PaletteFlags {
  readonly database?: string
  readonly csv?: string
  readonly dryRun?: boolean
  readonly force?: boolean
}

/** `yardmaster import …` */
export const importGroup: Group = (program) => {
  const group = program.command('import').description('take over what other programs did until now')
  group
    .command('palette')
    .option('--database <name>', 'registered database in which palette-director is installed')
    .option('--csv <file>', 'its file of bindings, read here instead')
    .option('--dry-run', 'show what would change, change nothing')
    .option('--force', 'also where a site would be left without any host')
    .description("make palette-director's bindings all bindings there are; its installation is not touched")
    .addHelpText('after', '\nExample:\n  yardmaster import palette --database workgroup --dry-run')
    .action(action(importPalette))
  group
    .command('hdbpp')
    .requiredOption('-c, --config <file>', 'the file of hdbpp-postprocessing, with its deployments')
    .option('--keep-tables', 'keep postprocessing_jobs_stats current, so that its readers go on working')
    .option('--no-keep-tables', 'leave it alone from now on')
    .option('--cron <expression>', "when its jobs run (default: '0 22 * * *', as its file for cron had it)")
    .option('--every <interval>', 'how often they run, instead')
    .option('--timezone <zone>', "zone of the schedule (default: this machine's)")
    .option('--dry-run', 'show what would be done, change nothing')
    .description('make its databases and jobs ours, with what it has counted; what is ours already stays as it is')
    .addHelpText(
      'after',
      '\nExample:\n  yardmaster import hdbpp -c /etc/hdb/hdbpp_postprocessing.conf --keep-tables --dry-run',
    )
    .action(action(importHdbpp))
}

async function importPalette(context: CommandContext, flags: PaletteFlags): Promise<number> {
  const { database, csv, dryRun = false, force = false } = flags
  if ((database === undefined) === (csv === undefined)) {
    throw new Failure('wrong_usage', {
      message:
        database === undefined ? 'Nothing to import from was named.' : '--database and --csv cannot both be given.',
      object: 'import palette',
      remedy: 'Give --database NAME, where palette-director is installed, or --csv FILE, its file of bindings.',
    })
  }
  const bytes = csv === undefined ? undefined : await loadFile(csv)
  return withControl(context, async (control) => {
    const { bindings, notes } = bytes
      ? await fromFile(control, csv ?? '', bytes)
      : await fromDatabase(context, control, database ?? '')
    for (const note of notes) context.terminal.say(note)
    const change = (mayStrand: 'all' | readonly string[]) =>
      changeBindings(control.session, { kind: 'all', bindings }, { mayStrand, dryRun })
    const outcome = dryRun ? await change([]) : await changeUnlessRefused(context, force, change)
    return reportChange(context.terminal, outcome, dryRun, force)
  })
}

async function fromDatabase(context: CommandContext, control: Control, name: string): Promise<PaletteBindings> {
  await getDatabase(control, name)
  // As a source: our session cannot write, whatever the relation calls.
  const session = await connectDatabase(control, name, context.environment, {
    side: 'source',
    purpose: 'import',
    signal: context.signal,
  })
  const { origin, rows, notes } = await readPalette(session).finally(() => session.end())
  const read = bindingsOf(origin, rows, await hostNames(control.session, hostsOf(rows)))
  return { bindings: read.bindings, notes: [...read.notes, ...notes] }
}

/** The file is as the one of `binding apply`, but pairs may stand there twice, as palette-director has it. */
async function fromFile(control: Control, file: string, bytes: Uint8Array): Promise<PaletteBindings> {
  const { rows, faults } = scanFile(bytes)
  const origin = { name: printable(file), prefix: `${printable(file)}:` }
  return bindingsOf(origin, rows, await hostNames(control.session, hostsOf(rows)), faults)
}
