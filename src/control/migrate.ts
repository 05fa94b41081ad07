import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { requireTrustedSchema } from '../postgres/own-schema.ts'
import { sql } from '../postgres/sql.ts'

/** A numbered, append-only step of the control schema. A file whose first line is `-- breaking` stops older programs. */
export interface Migration {
  readonly number: number
  readonly name: string
  readonly text: string
  readonly breaking: boolean
}

interface AppliedMigration {
  readonly number: number
  readonly name: string
  readonly breaking: boolean
  /** Of the functions and views that were installed last, and of the program that brought them; on the newest row only. */
  readonly api_hash: string | null
  readonly api_version: string | null
}

export interface MigrationPlan {
  readonly current: number
  readonly pending: readonly Migration[]
  /** Functions and views differ from this program's and are replaced. */
  readonly api: boolean
}

const folder = new URL('../../control/', import.meta.url)
/** Two processes never migrate at once. An arbitrary, fixed number. */
const migrationLock = 7_205_759_403_792_793n

/** All migrations that this program knows, in order. */
export function knownMigrations(): Migration[] {
  return readdirSync(new URL('migrations/', folder))
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file) => {
      const text = readFileSync(new URL(`migrations/${file}`, folder), 'utf8')
      return {
        number: Number(file.slice(0, 6)),
        name: file.slice(7, -4),
        text,
        breaking: text.startsWith('-- breaking'),
      }
    })
}

/** What `migrate` would do. Throws `control_newer` when the schema has a breaking migration that this program lacks. */
export async function planMigration(
  session: Session,
  known = knownMigrations(),
  version = programVersion(),
): Promise<MigrationPlan> {
  await requireTrustedSchema(session)
  const exists = await session.one<{ there: boolean }>(
    sql`select pg_catalog.to_regclass('yardmaster.migration') is not null as there`,
  )
  if (!exists.there) return { current: 0, pending: known, api: true }
  const applied = await session.query<AppliedMigration>(
    sql`select number, name, breaking, api_hash, api_version from yardmaster.migration order by number`,
  )
  const newest = known.at(-1)?.number ?? 0
  const stranger = applied.find((row) => row.breaking && row.number > newest)
  if (stranger) {
    throw new Failure('control_newer', {
      message: `The control schema has the breaking migration ${stranger.number} (${stranger.name}); this program knows migrations up to ${newest}.`,
      object: session.object,
    })
  }
  const current = applied.at(-1)?.number ?? 0
  const numbers = new Set(applied.map((row) => row.number))
  return {
    current,
    pending: known.filter((migration) => !numbers.has(migration.number)),
    // A newer program's functions are left as they are, also where it brought no migration.
    api: current <= newest && applied.at(-1)?.api_hash !== apiHash() && !isNewer(applied.at(-1)?.api_version, version),
  }
}

/** Brings the control schema up to date, under an advisory lock, in one transaction. Returns what was done. */
export async function migrate(session: Session, known = knownMigrations()): Promise<MigrationPlan> {
  await session.query(sql`begin`)
  try {
    await session.query(sql`select pg_catalog.pg_advisory_xact_lock(${migrationLock.toString()}::bigint)`)
    const plan = await planMigration(session, known)
    if (plan.pending.length > 0 || plan.api) await apply(session, plan)
    await session.query(sql`commit`)
    return plan
  } catch (error) {
    await session.query(sql`rollback`).catch(() => undefined)
    throw session.failure(error)
  }
}

async function apply(session: Session, plan: MigrationPlan): Promise<void> {
  await session.script(`
    create schema if not exists yardmaster;
    create table if not exists yardmaster.migration (
      number integer primary key, name text not null, breaking boolean not null,
      api_hash text, api_version text, applied_at timestamptz not null default now());`)
  for (const migration of plan.pending) {
    await session.script(migration.text)
    await session.query(sql`
      insert into yardmaster.migration (number, name, breaking)
      values (${migration.number}, ${migration.name}, ${migration.breaking})`)
  }
  for (const text of apiFiles()) await session.script(text)
  await session.query(sql`
    update yardmaster.migration set api_hash = ${apiHash()}, api_version = ${programVersion()}
    where number = (select max(number) from yardmaster.migration)`)
  await revokeFromPublic(session)
}

/** Of what is ours: where a destination shares the database, its part may belong to another role. */
async function revokeFromPublic(session: Session): Promise<void> {
  await session.script(`
    revoke all on schema yardmaster from public;
    do $$
    declare
      statement text;
    begin
      for statement in
        select pg_catalog.format('revoke all on %s %s from public', case c.relkind when 'S' then 'sequence' else 'table' end, c.oid::regclass)
        from pg_catalog.pg_class c
        where c.relnamespace = 'yardmaster'::regnamespace and c.relkind in ('r', 'v', 'S') and pg_has_role(c.relowner, 'USAGE')
        union all
        select pg_catalog.format('revoke all on routine %s from public', p.oid::regprocedure)
        from pg_catalog.pg_proc p
        where p.pronamespace = 'yardmaster'::regnamespace and pg_has_role(p.proowner, 'USAGE')
      loop
        execute statement;
      end loop;
    end $$;`)
}

function apiFiles(): string[] {
  return readdirSync(new URL('api/', folder))
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file) => readFileSync(new URL(`api/${file}`, folder), 'utf8'))
}

/** Of this program: the package's. */
function programVersion(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}

/** Whether the first of two versions `1.2.3` is the newer one. */
function isNewer(one: string | null | undefined, other: string): boolean {
  return (one ?? '').localeCompare(other, 'en', { numeric: true }) > 0
}

function apiHash(): string {
  return createHash('sha256').update(apiFiles().join('\n')).digest('hex').slice(0, 16)
}

/** Names the caller for the audit, for as long as the session lives. */
export async function identifyCaller(session: Session, actor: string, face: string): Promise<void> {
  await session.query(sql`select pg_catalog.set_config('yardmaster.actor', ${actor}, false),
    pg_catalog.set_config('yardmaster.face', ${face}, false)`)
}
