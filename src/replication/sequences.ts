import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import {
  displayQualified,
  parseQualifiedName,
  type QualifiedName,
  quoteIdentifier,
  quoteQualified,
} from '../postgres/identifier.ts'
import { identifier, relation, sql, trusted } from '../postgres/sql.ts'

interface Sequence extends QualifiedName {
  oid: number
  /** Where it begins, its bounds and direction, as PostgreSQL prints a bigint. */
  start: string
  lowest: string
  highest: string
  descending: boolean
  /** Whether our role may set it. */
  settable: boolean
}

/** Throws `sequence_unknown` when the destination has no such sequence, `permission_denied` when our role may not set it. */
export async function findSequence(session: Session, name: string, label: string): Promise<Sequence> {
  const { schema, name: sequence } = parseQualifiedName(name)
  const row = await session.first<Omit<Sequence, 'schema' | 'name'>>(sql`
    select c.oid, s.seqstart::text as start, s.seqmin::text as lowest, s.seqmax::text as highest,
      s.seqincrement < 0 as descending,
      has_sequence_privilege(c.oid, 'UPDATE') and has_schema_privilege(n.oid, 'USAGE') as settable
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_sequence s on s.seqrelid = c.oid where n.nspname = ${schema} and c.relname = ${sequence}`)
  const display = displayQualified({ schema, name: sequence })
  if (row?.settable) return { schema, name: sequence, ...row }
  if (!row) {
    throw new Failure('sequence_unknown', { message: `${session.object} has no sequence ${display}.`, object: label })
  }
  throw new Failure('permission_denied', {
    message: `Our role may not set the sequence ${display} of ${session.object}.`,
    object: label,
    remedy: `As its owner: GRANT USAGE ON SCHEMA ${quoteIdentifier(schema)} TO ${quoteIdentifier(session.parts.user)}; GRANT UPDATE ON SEQUENCE ${quoteQualified({ schema, name: sequence })} TO ${quoteIdentifier(session.parts.user)};`,
  })
}

/**
 * Sets each sequence to the last value of all columns that use it: those that own it (serial, identity) and those whose
 * default calls it. A sequence is no part of a transaction, so this comes after the commit and is done anew each time.
 */
export async function resetSequences(session: Session, names: readonly string[], label: string): Promise<string> {
  const said: string[] = []
  for (const name of names) {
    const sequence = await findSequence(session, name, label)
    const last = await lastValue(session, sequence)
    // Below its lowest value nothing was ever taken from it, as where there is no row.
    const taken = last !== undefined && !isBefore(last, sequence)
    const value = taken ? last.toString() : sequence.start
    await session.query(sql`select setval(${sequence.oid}::oid::regclass, ${value}::bigint, ${taken})`)
    said.push(`${displayQualified(sequence)} = ${value}`)
  }
  return said.join(', ')
}

function isBefore(value: bigint, sequence: Sequence): boolean {
  return sequence.descending ? value > BigInt(sequence.highest) : value < BigInt(sequence.lowest)
}

async function lastValue(session: Session, sequence: Sequence): Promise<bigint | undefined> {
  // Text that a default makes of the sequence's numbers has no maximum that means anything.
  const users = await session.query<{ schema: string; name: string; column: string }>(sql`
    select distinct n.nspname as schema, c.relname as name, a.attname as column from (
      select d.refobjid as relation, d.refobjsubid as number from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = ${sequence.oid} and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
      union
      select f.adrelid, f.adnum from pg_depend d join pg_attrdef f on f.oid = d.objid
      where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = ${sequence.oid}) u
    join pg_class c on c.oid = u.relation join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = u.relation and a.attnum = u.number and not a.attisdropped
    join pg_type t on t.oid = a.atttypid and t.typcategory = 'N' order by 1, 2, 3`)
  const best = trusted(sequence.descending ? 'min' : 'max')
  let last: bigint | undefined
  for (const user of users) {
    const row = await session.one<{ value: string | null }>(
      sql`select trunc(${best}(${identifier(user.column)})::numeric)::text as value from ${relation(user)}`,
    )
    if (row.value === null || !/^-?\d+$/.test(row.value)) continue
    const value = BigInt(row.value)
    if (last === undefined || (sequence.descending ? value < last : value > last)) last = value
  }
  return last
}
