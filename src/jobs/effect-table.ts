import { readdirSync, readFileSync } from 'node:fs'
import { crashPoint } from '../base/crash-point.ts'
import type { Session } from '../postgres/connect.ts'
import { strangeObject } from '../postgres/own-schema.ts'
import { type Sql, sql } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'

/** The run that an attempt belongs to, as its effect is known by. */
export interface RunIds {
  readonly controlId: string
  readonly jobId: number
  readonly runId: string
  readonly attempt: number
}

/** Days for which it is kept that a run took effect: far longer than anybody tries it again. */
const keptDays = 30
/** Old rows that one run takes away at most. */
const removedAtOnce = 100

let migrations: readonly string[] | undefined

/** In order; the table's comment says up to which it has come. */
function targetMigrations(): readonly string[] {
  const folder = new URL('../../control/target/', import.meta.url)
  migrations ??= readdirSync(folder)
    .sort()
    .map((file) => readFileSync(new URL(file, folder), 'utf8'))
  return migrations
}

/**
 * Whether runs of ours can take effect once in this database: it has our schema, nobody strange has put anything into it,
 * and it has the table, or lets us make it. For sessions whose search_path is empty.
 */
export async function keepsEffects(session: Session, found: OwnPart): Promise<boolean> {
  if (!found.schema || (await session.first(strangeObject))) return false
  if (found.version >= targetMigrations().length) return found.usable
  if (!found.creates || !found.owns) return false
  await bringUpToDate(session)
  return true
}

/** What a database has of ours. */
export interface OwnPart {
  readonly schema: boolean
  readonly usable: boolean
  readonly version: number
  readonly creates: boolean
  readonly owns: boolean
}

/** Gives an `OwnPart`. For sessions whose search_path is empty. */
export const ownPart = sql`
    select n.oid is not null as schema,
      coalesce(has_table_privilege(c.oid, 'SELECT') and has_table_privilege(c.oid, 'INSERT') and has_table_privilege(c.oid, 'DELETE')
        and has_schema_privilege(n.oid, 'USAGE'), false) as usable,
      coalesce(substring(obj_description(c.oid, 'pg_class') from '[0-9]+$'), '0')::integer as version,
      coalesce(has_schema_privilege(n.oid, 'CREATE'), false) as creates,
      coalesce(pg_has_role(c.relowner, 'USAGE'), true) as owns
    from (select 1) as one
    left join pg_namespace n on n.nspname = 'yardmaster'
    left join pg_class c on c.relnamespace = n.oid and c.relname = 'job_effect'`

async function bringUpToDate(session: Session): Promise<void> {
  await inTransaction(session, `begin; set local lock_timeout = '10s'`, async () => {
    await session.query(sql`select pg_advisory_xact_lock(hashtextextended('yardmaster target schema', 0))`)
    const { version } = await session.one<{ version: number }>(sql`
      select coalesce(substring(obj_description(to_regclass('yardmaster.job_effect'), 'pg_class') from '[0-9]+$'), '0')::integer as version`)
    for (const text of targetMigrations().slice(version)) await session.script(text)
  })
  crashPoint('call-after-effect-table')
}

/** Which attempt of the run took effect; undefined: none did. Takes rows away that nobody will ask for any more. */
export async function effectOf(session: Session, run: RunIds): Promise<number | undefined> {
  const [rows] = await session.queries<[{ attempt: number }[], object[]]>([
    sql`select e.attempt from yardmaster.job_effect e where e.control_id = ${run.controlId} and e.run_id = ${run.runId}`,
    sql`delete from yardmaster.job_effect e where e.ctid = any (array(
      select o.ctid from yardmaster.job_effect o where o.at < now() - make_interval(days => ${keptDays})
      order by o.at limit ${removedAtOnce} for update skip locked))`,
  ])
  return rows[0]?.attempt
}

/** For the transaction of the run itself, whatever its search_path is. */
export function recordEffect(run: RunIds): Sql {
  return sql`insert into yardmaster.job_effect (control_id, run_id, job_id, attempt)
    values (${run.controlId}, ${run.runId}, ${run.jobId}, ${run.attempt})`
}
