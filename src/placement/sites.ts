import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { asRefusal } from './refusal.ts'

/** Whom work belongs to; `''` is the default site. */
export interface Site {
  readonly site: string
  /** As people read it. */
  readonly label: string
  /** The delay that counts, after which hosts that are not preferred may take its work; null: never. */
  readonly fallback_after_seconds: number | null
  /** True: the delay is that of all bindings. */
  readonly fallback_inherited: boolean
  readonly jobs: number
  readonly bindings: number
  /** Since when its oldest run has been due that waits. */
  readonly waiting_since: Date | null
  /** Active hosts that may run it now, those that are full at the moment too. */
  readonly may_run_on: string[]
}

/** Sites that mean something: bound, worked for, or with a delay or capacity of their own. */
export async function listSites(control: Control): Promise<Site[]> {
  return control.session.query<Site>(sql`
    with s as materialized (select * from yardmaster.sites),
    may as (select m.site, array_agg(m.host order by m.host) as hosts from yardmaster.placement_matrix(array(select name from s), in_words => false) m
      where m.may_run or m.code in ('host_full', 'pair_full') group by m.site)
    select s.name as site, yardmaster.site_label(s.name) as label, extract(epoch from s.fallback_after)::float8 as fallback_after_seconds,
      s.inherits_fallback as fallback_inherited, s.jobs, s.bindings, s.oldest_waiting as waiting_since, coalesce(may.hosts, '{}') as may_run_on
    from s left join may on may.site = s.name order by s.name`)
}

/** How people call a site. */
export function siteLabel(site: string | null): string {
  if (site === null) return 'no site'
  return site === '' ? 'the default site' : printable(site)
}

/** The delay of all bindings, in seconds; null: never. */
export async function defaultFallback(control: Control): Promise<number | null> {
  const row = await control.session.one<{ seconds: number | null }>(
    sql`select extract(epoch from fallback_after)::float8 as seconds from yardmaster.placement`,
  )
  return row.seconds
}

/**
 * After how long work of a site may run on hosts that are not preferred: an interval, `never`, or `default`: that of all
 * bindings, which site null is itself. Throws `wrong_usage`.
 */
export async function setFallback(control: Control, site: string | null, delay: string): Promise<void> {
  try {
    await control.session.query(sql`select yardmaster.set_fallback(${site}::text, ${delay})`)
  } catch (error) {
    const remedy = `For example: --fallback-after '10 minutes'`
    throw asRefusal(error, { YM003: 'wrong_usage' }, { object: '--fallback-after', remedy })
  }
}

/** Whether anything is known of a site beyond its name: a binding, a job, a run that waits. */
export async function isInUse(control: Control, site: string): Promise<boolean> {
  const row = await control.session.one<{ known: boolean }>(
    sql`select exists (select from yardmaster.sites where name = ${site} and (jobs > 0 or bindings > 0 or oldest_waiting is not null)) as known`,
  )
  return row.known
}

/** The site in use that a mistyped one is nearest to. */
export async function nearestSite(control: Control, site: string): Promise<string | undefined> {
  const rows = await control.session.query<{ name: string }>(
    sql`select name from yardmaster.sites where name <> ${site} and (jobs > 0 or bindings > 0) order by name`,
  )
  return nearest(
    site,
    rows.map(({ name }) => name),
  )
}
