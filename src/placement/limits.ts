import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import { getDatabase } from '../control/databases.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { asRefusal } from './refusal.ts'

/** Most runs at once that share a key: `site:NAME`, `database:NAME`, or the name of a pool. */
export interface Limit {
  readonly key: string
  readonly limit: number
  readonly running: number
  /** Runs that wait and count for it, 10,001 at most. */
  readonly waiting: number
}

export async function listLimits(control: Control): Promise<Limit[]> {
  return control.session.query<Limit>(sql`
    select l.key, l.slots as limit, l.running, w.waiting from yardmaster.limits l
    cross join lateral (select count(*)::int as waiting from (
      select from yardmaster.run_limits u where u.key = l.key and u.status = 'WAITING' limit 10001) x) w
    order by l.key`)
}

/** Throws `limit_unknown`. */
export async function getLimit(control: Control, key: string): Promise<Limit> {
  const all = await listLimits(control)
  const found = all.find((limit) => limit.key === key)
  if (found) return found
  const near = nearest(
    key,
    all.map((limit) => limit.key),
  )
  throw new Failure('limit_unknown', {
    message: `There is no limit ${printable(key)}${near ? `; there is ${printable(near)}` : ''}.`,
    object: printable(key),
  })
}

/** Throws `wrong_usage`, `database_unknown`. */
export async function setLimit(control: Control, key: string, slots: number): Promise<Limit> {
  const database = /^database:(.*)$/s.exec(key)?.[1]
  if (database !== undefined) await getDatabase(control, database)
  try {
    await control.session.query(sql`select yardmaster.set_limit(${key}, ${slots})`)
  } catch (error) {
    const kind = nearest(key.split(':')[0] ?? '', ['site', 'database'])
    const meant = kind && key.includes(':') ? `${kind}${key.slice(key.indexOf(':'))}` : undefined
    const remedy = `For example: yardmaster limit set ${meant === undefined ? 'database:crm' : `'${printable(meant)}'`} ${slots}`
    throw asRefusal(error, { YM003: 'wrong_usage' }, { object: printable(key), remedy })
  }
  return getLimit(control, key)
}

export async function removeLimit(control: Control, key: string): Promise<void> {
  await control.session.query(sql`select yardmaster.remove_limit(${key})`)
}

/** Whether any job counts for a limit. */
export async function limitsAnything(control: Control, key: string): Promise<boolean> {
  const row = await control.session.one<{ some: boolean }>(sql`
    select exists (select from yardmaster.replications v
      where ${key} in ('site:' || v.site, 'database:' || v.source_database, 'database:' || v.destination_database, v.pool))
      or exists (select from yardmaster.job_targets t
      where t.in_scope and ${key} in ('site:' || t.site, 'database:' || t.database, t.pool)) as some`)
  return row.some
}
