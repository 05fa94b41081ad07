import { formatDuration } from '../base/duration.ts'
import type { Control } from '../control/control.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { nextStarts } from '../jobs/schedule.ts'
import { type CopyState, copyStates, lastRuns, type RunRow } from '../monitoring/run-history.ts'
import { displayQualified, printable } from '../postgres/identifier.ts'
import { destinationLabel, type Replication, sourceLabel } from '../replication/definition.ts'
import { getReplication, listReplications } from '../replication/store.ts'
import { type CommandContext, withControl } from './command-context.ts'
import { optionsJson, settings } from './replication-set.ts'
import { inWords, scheduleOf } from './schedule-options.ts'
import type { TableColumn } from './terminal.ts'

/** Next starts that `show` names. */
const startsShown = 5

/** A replication with what is known of it now. */
interface Copy {
  readonly replication: Replication
  readonly run: RunRow | undefined
  readonly state: CopyState
}

async function readCopies(control: Control): Promise<Copy[]> {
  await releaseLostWorkers(control)
  const [states, replications] = [await copyStates(control), await listReplications(control)]
  const runs = await lastRuns(control, [...states.keys()])
  return replications.flatMap((replication) => {
    const state = states.get(replication.jobId)
    return state ? [{ replication, run: runs.get(replication.jobId), state }] : []
  })
}

/** One of `replication list`, the JSON contract. */
function copyJson({ replication, run, state }: Copy) {
  return {
    job_id: replication.jobId,
    type: replication.type,
    source: { database: replication.sourceDatabase, table: displayQualified(replication.source) },
    destination: { database: replication.destinationDatabase, table: displayQualified(replication.destination) },
    status: replication.status,
    last_run: run ? { id: run.id, status: run.status, finished_at: run.finished_at } : null,
    next_start: state.next_start,
    lag_seconds: state.lag_seconds,
    late: state.is_late,
    idle: state.is_idle,
    position: state.position,
    note: state.pause_note,
    site: replication.site,
  }
}

/** Worst first: what failed, what is late, what warned, what is not as it is usually; then by name. */
function worstFirst(copies: readonly Copy[]): Copy[] {
  const badness = ({ replication, run, state }: Copy) => {
    if (run?.status === 'CRITICAL') return 0
    if (state.is_late) return 1
    if (run?.status === 'WARNING') return 2
    return replication.status === 'active' ? 4 : 3
  }
  return copies
    .map((copy) => ({ copy, rank: badness(copy) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ copy }) => copy)
}

/** `yardmaster replication list` */
export async function list(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const copies = worstFirst(await readCopies(control))
    const { terminal } = context
    if (terminal.json) terminal.document(copies.map(copyJson))
    else
      terminal.table(
        copies,
        [
          { head: 'LEVEL', kind: 'level', value: ({ run }) => run?.status ?? null },
          { head: 'STATUS', value: ({ replication }) => replication.status },
          { head: 'TYPE', value: ({ replication }) => replication.type },
          { head: 'SOURCE', value: ({ replication }) => sourceLabel(replication) },
          { head: 'DESTINATION', value: ({ replication }) => destinationLabel(replication) },
          ...lagColumns,
          { head: 'LAST RUN', value: ({ run }) => terminal.time(run?.finished_at ?? null) },
          { head: 'NEXT START', value: ({ state }) => terminal.time(state.next_start) },
          { head: 'NOTE', value: ({ state }) => state.pause_note },
        ],
        'No replication yet. Add one: yardmaster replication add snapshot SOURCE --from DATABASE --to DATABASE',
      )
    return 0
  })
}

const lagColumns: readonly TableColumn<Copy>[] = [
  { head: 'LAG', kind: 'number', value: ({ state }) => lagInWords(state) },
  { head: 'LATE', value: ({ state }) => (state.is_late ? 'LATE' : null) },
]

/** `12.4 s`, `idle` where the source had nothing new at the last look; null where nobody knows. */
function lagInWords({ lag_seconds: lag, is_idle: isIdle, is_late: isLate }: CopyState): string | null {
  if (lag === null) return null
  return isIdle && !isLate ? 'idle' : formatDuration(lag)
}

/** `yardmaster replication lag` */
export async function lag(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    const copies = worstFirst(await readCopies(control))
    const { terminal } = context
    if (terminal.json)
      terminal.document(
        copies.map(({ replication, state }) => ({
          job_id: replication.jobId,
          destination: destinationLabel(replication),
          type: replication.type,
          status: replication.status,
          lag_seconds: state.lag_seconds,
          late_after_seconds: state.late_after_seconds,
          late: state.is_late,
          idle: state.is_idle,
          as_of: state.as_of,
          position: state.position,
        })),
      )
    else
      terminal.table(
        copies,
        [
          { head: 'DESTINATION', value: ({ replication }) => destinationLabel(replication) },
          { head: 'TYPE', value: ({ replication }) => replication.type },
          ...lagColumns,
          { head: 'LATE AFTER', kind: 'number', value: ({ state }) => targetInWords(state) },
          { head: 'AS OF', value: ({ state }) => terminal.time(state.as_of) },
          { head: 'POSITION', value: ({ state }) => state.position },
        ],
        'No replication yet. Add one: yardmaster replication add snapshot SOURCE --from DATABASE --to DATABASE',
      )
    return 0
  })
}

function targetInWords({ late_after_seconds: target }: CopyState): string | null {
  return target === null ? null : formatDuration(target)
}

/** `yardmaster replication show` */
export async function show(context: CommandContext, _flags: object, destination: string): Promise<number> {
  return withControl(context, async (control) => {
    const { jobId } = await getReplication(control, destination)
    const copy = (await readCopies(control)).find(({ replication }) => replication.jobId === jobId)
    if (!copy) return show(context, _flags, destination)
    if (context.terminal.json) context.terminal.document(detailsJson(copy))
    else describe(context, copy)
    return 0
  })
}

function detailsJson(copy: Copy) {
  const { replication, state } = copy
  return {
    ...copyJson(copy),
    ...optionsJson(replication),
    version: replication.version,
    schedule: inWords(replication.schedule),
    next_starts: upcoming(copy),
    late_after_seconds: state.late_after_seconds,
    as_of: state.as_of,
    paused: state.paused_at && { since: state.paused_at, by: state.paused_by, note: state.pause_note },
  }
}

/** The next starts, as if each run ended well and at once; none while it is paused. */
function upcoming({ replication, state }: Copy): Date[] {
  const first = state.next_start
  const schedule = scheduleOf(replication.schedule, state.schedule_origin)
  if (replication.status !== 'active' || !schedule || !first) return []
  return [first, ...nextStarts(schedule, first, startsShown - 1)]
}

function describe({ terminal }: CommandContext, copy: Copy): void {
  const { replication, run, state } = copy
  terminal.line(
    `${sourceLabel(replication)} → ${destinationLabel(replication)} (${replication.type}, job ${replication.jobId}) is ${replication.status}.`,
  )
  if (replication.status === 'setting_up')
    terminal.line('Its set-up is not finished: replication refresh goes on with it, replication remove undoes it.')
  if (state.paused_at)
    terminal.line(
      `Paused since ${terminal.time(state.paused_at)} by ${printable(state.paused_by ?? 'somebody')}${state.pause_note === null ? '.' : `: ${printable(state.pause_note)}`}`,
    )
  if (run) terminal.line(`Last run ${run.id}: ${terminal.level(run.status)} ${terminal.time(run.finished_at)}`)
  terminal.line(`Lag: ${lagSentence(state)}`)
  if (state.position !== null) terminal.line(`Position: ${printable(state.position)}`)
  terminal.line(`Schedule: ${inWords(replication.schedule)}`)
  const starts = upcoming(copy)
  if (starts.length > 0) terminal.line(`Next starts: ${starts.map((start) => terminal.time(start)).join(', ')}`)
  for (const [key, value] of settings(replication))
    terminal.line(`  ${key}: ${value === null ? '—' : printable(value)}`)
}

function lagSentence(state: CopyState): string {
  const target = targetInWords(state)
  const after = target === null ? '' : `; late after ${target}`
  if (state.lag_seconds === null) return `unknown: no refresh has said yet${after}`
  const mark = state.is_late ? ', LATE' : ''
  const age = formatDuration(state.lag_seconds)
  if (state.is_idle && !state.is_late) return `idle: the source had nothing new ${age} ago${after}`
  return `${age}${mark}${after}`
}
