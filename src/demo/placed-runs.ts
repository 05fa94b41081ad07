import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import { parseCsv } from './datasets.ts'

/** A run that a worker was given, by its own record. */
export interface PlacedRun {
  readonly id: string
  readonly object: string
  readonly site: string | null
  readonly host: string
  /** The rule's code by which the host got it. */
  readonly placement: string
  readonly started_at: Date
  /** Above 1: it began elsewhere. */
  readonly attempt: number
}

/** When a host took no work. */
export interface Absence {
  readonly host: string
  readonly from: Date
  readonly to: Date
}

/** Milliseconds in which a claim that was under way may still end by what was so when it began. */
const settling = 500

export async function listPlacedRuns(control: Control): Promise<PlacedRun[]> {
  return control.session.query<PlacedRun>(sql`
    select id, object, site, host, placement, started_at, attempt from yardmaster.runs where placement is not null order by id`)
}

/**
 * Says of each run that is where its bindings don't let it be what is wrong. It reads the bindings' file and shares no code
 * with the rule: what that overlooks is not overlooked here too. `began`: all hosts take work since then.
 */
export function misplacedRuns(
  runs: readonly PlacedRun[],
  file: string,
  { began, away }: { began: Date; away: readonly Absence[] },
): string[] {
  const bindings = parseCsv(file)
  const wasAway = (host: string | null | undefined, at: Date) =>
    at.getTime() <= began.getTime() + settling ||
    away.some((one) => one.host === host && at >= one.from && at.getTime() <= one.to.getTime() + settling)
  return runs.flatMap((run) => {
    const its = bindings.filter((one) => one.site === run.site)
    const mine = its.find((one) => one.host === run.host)?.binding ?? 'none'
    const better = its.filter((one) => one.binding === 'prefer' && !wasAway(one.host, run.started_at))
    const wanted = run.site === null ? 'no_site' : mine === 'prefer' ? 'prefers' : 'allowed'
    const wrong =
      mine === 'forbid'
        ? `which forbids ${run.site}`
        : mine !== 'prefer' && better.length > 0 && run.attempt === 1
          ? `though ${better.map((one) => one.host).join(', ')} prefers ${run.site} and was there`
          : run.placement !== wanted
            ? `by ${run.placement}, not by ${wanted}`
            : undefined
    return wrong === undefined ? [] : [`run ${run.id} of ${run.object} was on ${run.host}, ${wrong}`]
  })
}
