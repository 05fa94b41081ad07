import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Control } from './control-column.ts'
import { type ControlColumn, destinationLabel, type Replication } from './definition.ts'
import type { SourceRead } from './source-read.ts'

const defaultWindow = '00:30-02:30'

/** Why nothing is copied at this moment. */
export interface ShiftPause {
  readonly zone: string
  readonly window: string
}

/**
 * Local times of a day on which the zone's clocks shift mean two moments, or none: in the window nothing is copied. The
 * source's server is asked, whose zones those are; a day shifts when it has not 24 hours. `now` is an instant, by default
 * the source's clock. Undefined outside of the window.
 */
export async function pauseForShift(
  source: Session,
  control: ControlColumn,
  now: string | null = null,
): Promise<ShiftPause | undefined> {
  const window = control.dstWindow ?? defaultWindow
  const [from, until] = window.split('-')
  if (window === 'off' || from === undefined || until === undefined) return undefined
  try {
    // Our own session stands at UTC; what a RESET would give is what other sessions of our role have.
    const row = await source.one<{ zone: string; paused: boolean }>(sql`
      select zone, extract(epoch from ((day + 1)::timestamp at time zone zone) - (day::timestamp at time zone zone)) <> 86400
        and case when ${from}::time <= ${until}::time then clock >= ${from}::time and clock < ${until}::time
          else clock >= ${from}::time or clock < ${until}::time end as paused
      from (select zone, (instant at time zone zone)::date as day, (instant at time zone zone)::time as clock
        from (select coalesce(${control.timezone}::text, (select reset_val from pg_settings where name = 'TimeZone')) as zone,
          coalesce(${now}::timestamptz, clock_timestamp()) as instant) as given) as local`)
    return row.paused ? { zone: row.zone, window } : undefined
  } catch (error) {
    const failure = source.failure(error)
    if (failure.sqlstate !== '22023') throw failure
    throw new Failure('timezone_unknown', {
      message: `${source.object} knows no time zone '${control.timezone}', the control column's.`,
      object: source.object,
      remedy: 'Set it anew: control-timezone. pg_timezone_names lists those that the server knows.',
    })
  }
}

/**
 * The message of a refresh that waits for the window's end; undefined where there is nothing to wait for. Throws
 * `clock_shift` where everything is to be copied: what is half made could not say up to where it goes.
 */
export async function refuseShift(
  source: SourceRead,
  control: Control,
  replication: Replication,
  isWhole: boolean,
): Promise<string | undefined> {
  if (!control.isLocal || !replication.control) return undefined
  const pause = await pauseForShift(source.session, replication.control)
  if (!pause) return undefined
  const why = `clocks of ${pause.zone} shift today, and nothing is copied between ${pause.window.replace('-', ' and ')} there`
  if (!isWhole) return `paused for daylight saving: ${why}.`
  const label = destinationLabel(replication)
  throw new Failure('clock_shift', {
    message: `${label}: ${why}; nothing was changed.`,
    object: label,
    retryable: true,
  })
}
