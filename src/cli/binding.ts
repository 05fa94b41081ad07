import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { type Binding, bindingWords } from '../placement/binding-file.ts'
import {
  type BindingRequest,
  changeBindings,
  type ListedBinding,
  listBindings,
  listChanges,
  type RecordedChange,
} from '../placement/bindings.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import { applyFile } from './binding-apply.ts'
import { changeUnlessRefused, reportChange } from './binding-change.ts'
import { explain, simulateFile } from './binding-explain.ts'
import { siteLabel } from './binding-plan.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { readCount } from './usage.ts'

const csvArgument = ['<csv>', 'file with the header site,host,binding'] as const
const siteArgument = ['<site>', "name of the site; '' is the default site"] as const
const forceOption = ['--force', 'also when it leaves a site without any host that may run its work'] as const

/** `yardmaster binding …` */
export const bindingGroup: Group = (program) => {
  const group = program.command('binding').description('which hosts prefer, allow or forbid which sites')
  group
    .command('apply')
    .argument(...csvArgument)
    .option('--dry-run', 'show the plan, write nothing; exit 1 where it would be refused')
    .option(...forceOption)
    .option('--watch', 'apply it now and whenever it changes, until Ctrl-C; a bad edit keeps the bindings before it')
    .description('make these all bindings there are: all lines or none')
    .addHelpText('after', example('binding apply workers.csv --dry-run'))
    .action(action(applyFile))
  group
    .command('list')
    .description('all bindings, by site')
    .addHelpText('after', example('binding list --json'))
    .action(action(list))
  group
    .command('set')
    .argument(...siteArgument)
    .argument('<host>', 'name or address of the host')
    .argument('<binding>', 'prefer, allow, forbid, or none to take it away')
    .option(...forceOption)
    .description('bind one site to one host')
    .addHelpText('after', example('binding set CEO h2 prefer'))
    .action(action(set))
  group
    .command('explain')
    .argument('[site]', siteArgument[1])
    .option('--no-site', 'of work that belongs to no site')
    .description('on which hosts a site’s work may run now, why, and why its oldest runs wait')
    .addHelpText('after', example('binding explain CEO'))
    .action(action(explain))
  group
    .command('simulate')
    .argument(...csvArgument)
    .option('--up <hosts>', 'as if exactly these hosts were active, with commas between them (default: those that are)')
    .description('who could run what if these were all bindings, beside who may now; writes nothing')
    .addHelpText('after', example('binding simulate workers.csv --up h1,h2'))
    .action(action(simulateFile))
  group
    .command('history')
    .option('--limit <n>', 'at most so many changes', '20')
    .description('who changed which bindings, newest first')
    .addHelpText('after', example('binding history --limit 5'))
    .action(action(history))
  group
    .command('undo')
    .option(...forceOption)
    .description('take back the last change of bindings; again: the one before it')
    .addHelpText('after', example('binding undo'))
    .action(action(undo))
}

function example(text: string): string {
  return `\nExample:\n  yardmaster ${text}`
}

async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const bindings = await listBindings(control)
    const { terminal } = context
    if (terminal.json) terminal.document(bindings)
    else
      terminal.table(
        bindings,
        [
          { head: 'SITE', value: ({ site }) => siteLabel(site) },
          { head: 'HOST', value: ({ host }) => host },
          { head: 'BINDING', kind: 'level', value: ({ binding }) => binding },
          { head: 'HOST IS', value: stateInWords },
        ],
        'No binding yet: every host may run every site. Bind one: yardmaster binding set SITE HOST prefer',
      )
    return 0
  })
}

function stateInWords({ active, drained, known }: ListedBinding): string {
  if (drained) return 'drained'
  if (active) return 'active'
  return known ? 'inactive' : 'never seen'
}

async function set(
  context: CommandContext,
  flags: { force?: boolean },
  site: string,
  host: string,
  word: string,
): Promise<number> {
  return change(context, { kind: 'pair', site, host, binding: readWord(word) }, flags.force === true)
}

function readWord(word: string): Binding['binding'] | null {
  const words = [...bindingWords, 'none']
  if (word === 'none') return null
  const found = bindingWords.find((one) => one === word)
  if (found) return found
  const near = nearest(word, words)
  throw new Failure('wrong_usage', {
    message: `'${printable(word)}' is not a binding${near ? `; did you mean ${near}?` : '.'}`,
    object: 'binding',
    remedy: `One of ${words.join(', ')}; for example: yardmaster binding set CEO h2 prefer`,
  })
}

async function undo(context: CommandContext, flags: { force?: boolean }): Promise<number> {
  return change(context, { kind: 'undo' }, flags.force === true)
}

async function change(context: CommandContext, request: BindingRequest, force: boolean): Promise<number> {
  return withControl(context, async ({ session }) => {
    const outcome = await changeUnlessRefused(context, force, (mayStrand) =>
      changeBindings(session, request, { mayStrand, dryRun: false }),
    )
    const code = reportChange(context.terminal, outcome, false, force)
    if (outcome.undoes !== null && !context.terminal.json)
      context.terminal.say(`Change ${outcome.undoes} was taken back.`)
    return code
  })
}

async function history(context: CommandContext, flags: { limit: string }): Promise<number> {
  const limit = readCount(flags.limit, '--limit', 1_000_000)
  return withControl(context, async (control) => {
    const changes = await listChanges(control, limit)
    const { terminal } = context
    if (terminal.json) terminal.document(changes)
    else
      terminal.table(
        changes.flatMap((one) => one.changes.map((pair) => ({ one, pair }))),
        [
          { head: 'CHANGE', kind: 'number', value: ({ one }) => one.id },
          { head: 'AT', value: ({ one }) => terminal.time(one.at) },
          { head: 'WHO', value: ({ one }) => one.actor },
          { head: 'BY', value: ({ one }) => one.face },
          { head: 'SITE', value: ({ pair }) => siteLabel(pair.site) },
          { head: 'HOST', value: ({ pair }) => pair.host },
          { head: 'BEFORE', kind: 'level', value: ({ pair }) => pair.before ?? 'none' },
          { head: 'AFTER', kind: 'level', value: ({ pair }) => pair.after ?? 'none' },
          { head: 'NOTE', value: ({ one }) => noteOf(one) },
        ],
        'No binding was changed yet.',
      )
    return 0
  })
}

function noteOf({ forced, undoes, undone_by: undoneBy }: RecordedChange): string {
  const notes = [
    ...(undoes === null ? [] : [`takes back ${undoes}`]),
    ...(undoneBy === null ? [] : [`taken back by ${undoneBy}`]),
    ...(forced ? ['forced'] : []),
  ]
  return notes.join(', ')
}
