import { Failure } from '../base/failure.ts'
import { adopt, type HdbppAdoption, type HdbppWish, type JobAdoption, planAdoption } from '../compat/hdbpp-adoption.ts'
import { readHdbpp } from '../compat/hdbpp-import.ts'
import { scheduleInWords } from '../jobs/schedule.ts'
import { displayUrl } from '../postgres/connection-url.ts'
import { displayQualified, printable } from '../postgres/identifier.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { confirmPlan } from './confirmation.ts'
import { readSchedule, scheduleOf } from './schedule-options.ts'
import type { PlanSign, Terminal } from './terminal.ts'

interface HdbppFlags {
  readonly config: string
  /** undefined: neither --keep-tables nor --no-keep-tables. */
  readonly keepTables?: boolean
  readonly cron?: string
  readonly every?: string
  readonly timezone?: string
  readonly dryRun?: boolean
}

/** When the file for cron that came with the script ran it. */
const shippedCron = '0 22 * * *'

/** A deployment, and what became of it. */
interface Outcome {
  readonly plan: HdbppAdoption
  /** New jobs by the numbers of their rows. */
  readonly made: ReadonlyMap<string, number>
  readonly failure: Failure | null
}

/** `yardmaster import hdbpp`: 0 when all was taken over, or is already; 1 when something could not be. */
export async function importHdbpp(context: CommandContext, flags: HdbppFlags): Promise<number> {
  const { terminal, signal, environment } = context
  const wish = readWish(flags)
  const installations = await readHdbpp(flags.config, {
    signal,
    passwordFile: environment('PGPASSFILE') || undefined,
  })
  return withControl(context, async (control) => {
    const plans = await planAdoption(control, installations, wish)
    const isDry = flags.dryRun === true
    if (!terminal.json) printPlan(terminal, plans, wish)
    let outcomes: Outcome[] = plans.map((plan) => ({ plan, made: new Map(), failure: plan.failure }))
    if (plans.some(changesAnything) && !isDry) {
      await confirmPlan(
        context,
        'Import',
        `${changes(plans).length} things are to be changed.`,
        printable(flags.config),
      )
      outcomes = []
      for (const plan of plans) {
        if (signal.aborted) throw new Failure('cancelled', { message: 'Stopped; what was said to be imported stays.' })
        outcomes.push(plan.failure ? { plan, made: new Map(), failure: plan.failure } : await carryOut(plan))
      }
      if (!terminal.json) report(terminal, outcomes)
    }
    if (terminal.json)
      terminal.document({ dry_run: isDry, deployments: outcomes.map((one) => outcomeJson(one, isDry)) })
    const isWhole = ({ plan, failure }: Outcome) =>
      failure === null && plan.jobs.every((job) => job.change !== 'refused')
    return outcomes.every(isWhole) ? 0 : 1

    async function carryOut(plan: HdbppAdoption): Promise<Outcome> {
      try {
        return { plan, made: await adopt(control, plan, wish), failure: null }
      } catch (error) {
        return { plan, made: new Map(), failure: toFailure(error, { side: 'control', object: plan.deployment }) }
      }
    }
  })
}

function readWish({ every, cron, timezone, keepTables }: HdbppFlags): HdbppWish {
  const given = { every: every ?? null, cron: every === undefined ? (cron ?? shippedCron) : (cron ?? null) }
  const zone = timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
  return { schedule: readSchedule({ ...given, timezone: zone }), keepTables }
}

function changesAnything({ jobs, isNew, failure }: HdbppAdoption): boolean {
  return failure === null && (isNew || jobs.some(({ change }) => change !== 'none' && change !== 'refused'))
}

interface Line {
  readonly sign: PlanSign
  readonly text: string
}

/** What is to be done, and what can't be, deployment by deployment. */
function changes(plans: readonly HdbppAdoption[]): Line[] {
  return plans.flatMap((plan): Line[] => {
    const { deployment, failure, isNew, database, parts, jobs } = plan
    if (failure) return [{ sign: '!', text: `${printable(deployment)}: [${failure.code}] ${failure.message}` }]
    const as = database === deployment ? '' : `, as ${database}`
    const registers: Line[] = isNew
      ? [{ sign: '+', text: `database ${printable(deployment)}${as}: ${displayUrl(parts)}` }]
      : []
    return [...registers, ...jobs.filter(({ change }) => change !== 'none').map((job) => jobLine(plan, job))]
  })
}

function jobLine({ database, stats }: HdbppAdoption, { row, procedure, change, jobId, refusal }: JobAdoption): Line {
  const table = stats ? displayQualified(stats) : ''
  if (change === 'refused') return { sign: '!', text: `${database}: row ${row.job_id} is no job: ${refusal}` }
  if (change === 'count') return { sign: '~', text: `${database}: job ${jobId} counts its runs in ${table} too` }
  if (change === 'stop counting') return { sign: '~', text: `${database}: job ${jobId} leaves ${table} alone` }
  const past = row.stats
    ? `, ${row.stats.total_runs} runs so far, ${row.stats.total_failures} in error`
    : ', no run so far'
  return { sign: '+', text: `${database}: job ${procedure}, of row ${row.job_id}${past}` }
}

function printPlan(terminal: Terminal, plans: readonly HdbppAdoption[], wish: HdbppWish): void {
  const lines = changes(plans)
  if (lines.length === 0) {
    terminal.line('No changes.')
    return
  }
  const legend = { '+': 'create', '~': 'change', '!': 'refused' } as const
  const shown = (Object.keys(legend) as (keyof typeof legend)[]).filter((sign) =>
    lines.some((line) => line.sign === sign),
  )
  terminal.line(shown.map((sign) => `${terminal.sign(sign)} ${legend[sign]}`).join('   '))
  for (const { sign, text } of lines) terminal.line(`${terminal.sign(sign)} ${text}`)
  for (const { failure, jobs, pool } of plans) {
    if (failure || !jobs.some(({ change }) => change === 'create')) continue
    const schedule = scheduleOf(wish.schedule, new Date())
    const tables = wish.keepTables ? '; its table of stats is kept current' : ''
    terminal.line(`    ${schedule ? scheduleInWords(schedule) : ''}; one after the other (pool ${pool})${tables}`)
  }
  const count = (sign: PlanSign) => lines.filter((line) => line.sign === sign).length
  terminal.line(`Plan: ${count('+')} to create, ${count('~')} to change, 0 to replace, 0 to delete.`)
}

function report(terminal: Terminal, outcomes: readonly Outcome[]): void {
  for (const { plan, made, failure } of outcomes) {
    const name = printable(plan.deployment)
    if (failure && !plan.failure)
      terminal.line(`${name}: [${failure.code}] ${failure.message} Remedy: ${failure.remedy}`)
    if (made.size === 0) continue
    const ids = [...made.values()].join(', ')
    terminal.line(`${name}: ${made.size === 1 ? `job ${ids} was` : `jobs ${ids} were`} added in ${plan.database}.`)
  }
  if (outcomes.every(({ made }) => made.size === 0)) return
  terminal.say('Take the script’s line out of cron now (/etc/cron.d/hdbpp_postprocessing), or its jobs run twice.')
}

const operations = {
  create: 'create',
  count: 'update',
  'stop counting': 'update',
  none: 'none',
  refused: 'refused',
} as const

function outcomeJson({ plan, made, failure }: Outcome, isDry: boolean) {
  return {
    deployment: plan.deployment,
    database: plan.database === '' ? null : plan.database,
    registered: plan.isNew && !isDry && failure === null,
    error: failure,
    jobs: plan.jobs.map(({ row, change, jobId, refusal }) => ({
      number: row.job_id,
      proc_name: row.proc_name,
      op: operations[change],
      job_id: made.get(row.job_id) ?? jobId,
      message: refusal,
    })),
  }
}
