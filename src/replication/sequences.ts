import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayQualified, parseQualifiedName, type QualifiedName } from '../postgres/identifier.ts'
import { identifier, relation, sql } from '../postgres/sql.ts'

interface Sequence extends QualifiedName {
  oid: number
  minimum: string
}

/** Throws `sequence_unknown` when the destination has no such sequence. */
export async function findSequence(session: Session, name: string, label: string): Promise<Sequence> {
  const { schema, name: sequence } = parseQualifiedName(name)
  const row = await session.first<{ oid: number; minimum: string }>(sql`
    select c.oid, s.seqstart::text as minimum from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_sequence s on s.seqrelid = c.oid where n.nspname = ${schema} and c.relname = ${sequence}`)
  if (row) return { schema, name: sequence, ...row }
  throw new Failure('sequence_unknown', {
    message: `${session.object} has no sequence ${displayQualified({ schema, name: sequence })}.`,
    object: label,
  })
}

/**
 * Sets each sequence to the maximum of all columns that use it: those that own it (serial, identity) and those whose
 * default calls it. A sequence is no part of a transaction, so this comes after the commit and is done anew each time.
 */
export async function resetSequences(session: Session, names: readonly string[], label: string): Promise<string> {
  const said: string[] = []
  for (const name of names) {
    const sequence = await findSequence(session, name, label)
    const users = await session.query<{ schema: string; name: string; column: string }>(sql`
      select distinct n.nspname as schema, c.relname as name, a.attname as column from (
        select d.refobjid as relation, d.refobjsubid as number from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = ${sequence.oid} and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
        union
        select f.adrelid, f.adnum from pg_depend d join pg_attrdef f on f.oid = d.objid
        where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = ${sequence.oid}) u
      join pg_class c on c.oid = u.relation join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = u.relation and a.attnum = u.number and not a.attisdropped`)
    let highest: bigint | undefined
    for (const user of users) {
      const row = await session.one<{ highest: string | null }>(
        sql`select max(${identifier(user.column)})::text as highest from ${relation(user)}`,
      )
      if (row.highest !== null && (highest === undefined || BigInt(row.highest) > highest))
        highest = BigInt(row.highest)
    }
    const value = highest?.toString() ?? sequence.minimum
    await session.query(sql`select setval(${sequence.oid}::oid::regclass, ${value}::bigint, ${highest !== undefined})`)
    said.push(`${displayQualified(sequence)} = ${value}`)
  }
  return said.join(', ')
}
