import { readdirSync, readFileSync } from 'node:fs'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { quoteIdentifier } from '../postgres/identifier.ts'
import { requireTrustedSchema, type StrangeObject, strangeObject, strangeSchema } from '../postgres/own-schema.ts'
import { type Sql, sql } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'

/** First key of every session lock of ours in a destination ("YM" and two numbers); the second is the position's own. */
export const lockClass = 1_498_238_285

/** An administrator may have made the schema for us, because our role may not: that one is never dropped. */
const madeByUs = 'Made by yardmaster; goes with its last object.'

/** Two set-ups, or a set-up and a removal, never make or drop the table of positions at once. For the caller's transaction. */
export async function lockPositionTable(session: Session): Promise<void> {
  await session.query(sql`select pg_advisory_xact_lock(${lockClass}, 0)`)
}

/** In the caller's transaction: makes the table of positions where it is absent. Throws `permission_denied` with the grant. */
export async function ensurePositionTable(session: Session): Promise<void> {
  const there = await session.one<{ table: boolean; schema: boolean }>(
    sql`select to_regclass('yardmaster.position') is not null as table, to_regnamespace('yardmaster') is not null as schema`,
  )
  if (there.schema) await requireTrustedSchema(session)
  if (there.table) return
  try {
    if (!there.schema) await session.script(`create schema yardmaster; comment on schema yardmaster is '${madeByUs}'`)
    for (const text of destinationMigrations()) await session.script(text)
  } catch (error) {
    const failure = session.failure(error)
    if (failure.code !== 'permission_denied') throw failure
    throw new Failure('permission_denied', {
      message: `Our role may not make the schema yardmaster in ${session.object}, which holds the positions: ${failure.message}`,
      object: session.object,
      remedy: `As an administrator of ${session.object}: CREATE SCHEMA yardmaster AUTHORIZATION ${session.parts.user};`,
    })
  }
}

let migrations: readonly string[] | undefined

/** What a destination gets, in order; the table's comment says up to which it has come. */
function destinationMigrations(): readonly string[] {
  const folder = new URL('../../control/destination/', import.meta.url)
  migrations ??= readdirSync(folder)
    .sort()
    .map((file) => readFileSync(new URL(file, folder), 'utf8'))
  return migrations
}

const versionOf = (oid: Sql) => sql`(
  select substring(d.description from '[0-9]+$') from pg_description d
  where d.objoid = ${oid} and d.classoid = 'pg_class'::regclass and d.objsubid = 0)`

/** Sessions that have found the table of positions up to date. It never goes back while one of ours uses it. */
const upToDate = new WeakSet<Session>()

/** Brings a table of positions up to date that an older program made. Only its owner can. */
export async function updatePositionTable(session: Session): Promise<void> {
  if (upToDate.has(session)) return
  const version = async () => {
    const select = sql`select ${versionOf(sql`to_regclass('yardmaster.position')`)} as version`
    return Number((await session.one<{ version: string | null }>(select)).version ?? 0)
  }
  const known = destinationMigrations()
  if ((await version()) >= known.length) return
  await inTransaction(session, `begin; set local lock_timeout = '10s'`, async () => {
    await lockPositionTable(session)
    for (const text of known.slice(await version())) await session.script(text)
  })
}

/** In the caller's transaction: takes the table of positions away when no replication is left. */
export async function dropUnusedPositionTable(session: Session): Promise<void> {
  const used = await session.one<{ used: boolean }>(sql`select exists (select from yardmaster.position) as used`)
  if (used.used) return
  await session.script(`
    drop function yardmaster.try_lock_destination(regclass);
    drop function yardmaster.unlock_destination(regclass);
    drop table yardmaster.position;`)
  const empty = await session.one<{ empty: boolean }>(sql`
    select not exists (select from pg_class c where c.relnamespace = n.oid)
      and not exists (select from pg_proc p where p.pronamespace = n.oid)
      and pg_has_role(n.nspowner, 'USAGE') and obj_description(n.oid, 'pg_namespace') = ${madeByUs} as empty
    from pg_namespace n where n.nspname = 'yardmaster'`)
  if (empty.empty) await session.script('drop schema yardmaster')
}

/** Whether there is a table of positions. Throws where it is closed to us, or not to be trusted. */
export async function hasPositions(session: Session): Promise<boolean> {
  const row = await session.one<{
    there: boolean
    may: boolean
    strange: StrangeObject | null
    version: string | null
  }>(sql`
    select c.oid is not null as there,
      coalesce(has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
        and has_table_privilege(c.oid, 'INSERT') and has_table_privilege(c.oid, 'UPDATE') and has_table_privilege(c.oid, 'DELETE'), true) as may,
      (select jsonb_build_object('what', s.what, 'owner', s.owner) from (${strangeObject}) as s) as strange,
      ${versionOf(sql`c.oid`)} as version
    from (select 1) as one
    left join pg_namespace n on n.nspname = 'yardmaster'
    left join pg_class c on c.relnamespace = n.oid and c.relname = 'position'`)
  if (!row.there) return false
  if (!row.may) throw positionsClosed(session)
  if (row.strange) throw strangeSchema(session, row.strange)
  if (Number(row.version ?? 0) >= destinationMigrations().length) upToDate.add(session)
  return true
}

/** Another role of ours made the table of positions; several may work with it when it lets them. */
function positionsClosed(session: Session): Failure {
  const role = quoteIdentifier(session.parts.user)
  return new Failure('permission_denied', {
    message: `The role ${session.parts.user} may not use the table of positions, yardmaster.position, in ${session.object}: another role made it.`,
    object: session.object,
    remedy: `As its owner: GRANT USAGE ON SCHEMA yardmaster TO ${role}; GRANT SELECT, INSERT, UPDATE, DELETE ON yardmaster.position TO ${role};`,
  })
}

/** Waits until nobody registers or removes anything: a registration whose connection broke may still be about to commit. */
export async function waitForRegistrations(session: Session): Promise<void> {
  await inTransaction(session, `begin; set local lock_timeout = '10s'`, () => lockPositionTable(session))
}
