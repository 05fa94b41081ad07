import type { Session } from './connect.ts'
import { type QualifiedName, quoteIdentifier, quoteQualified } from './identifier.ts'
import { sql } from './sql.ts'

interface IndexPart {
  /** A column's name, or null for an expression. */
  column: string | null
  /** `pg_get_indexdef` of this one part: the quoted column or the expression in its own parentheses. */
  expression: string
  opclass: { schema: string; name: string; isDefault: boolean; options: string[] | null } | null
  collation: QualifiedName | null
  descending: boolean
  nullsFirst: boolean
  ordered: boolean
}

/** A valid index, in parts, so that it can be made anew for another table without reusing the server's text as a whole. */
export interface Index {
  readonly oid: number
  readonly name: string
  readonly method: string
  readonly unique: boolean
  readonly primary: boolean
  readonly nullsNotDistinct: boolean
  /** False for a deferrable constraint's: it is no row identity while a transaction runs. */
  readonly immediate: boolean
  /** True when an exclusion constraint owns it: never copied. */
  readonly exclusion: boolean
  readonly parts: readonly IndexPart[]
  readonly include: readonly string[]
  readonly predicate: string | null
  readonly options: readonly string[]
  /** True when a constraint (primary key, unique) owns it. */
  readonly constraint: string | null
}

/** All valid indexes of a table, the primary key first. */
export async function readIndexes(session: Session, tableOid: number): Promise<Index[]> {
  // indnullsnotdistinct exists from 15 on; to_jsonb asks for it without naming a column that may not be there.
  return session.query<Index>(sql`
    select i.indexrelid as oid, c.relname as name, am.amname as method, i.indisunique as unique, i.indisprimary as primary,
      coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) as "nullsNotDistinct",
      i.indimmediate as immediate, i.indisexclusion as exclusion,
      (select jsonb_agg(jsonb_build_object(
          'column', case when k.attnum > 0 then a.attname end,
          'expression', pg_get_indexdef(i.indexrelid, k.n::int, true),
          'opclass', jsonb_build_object('schema', ocn.nspname, 'name', oc.opcname, 'isDefault', oc.opcdefault,
            'options', ia.attoptions),
          'collation', case when ia.attcollation <> 0 and ia.attcollation is distinct from a.attcollation
            then jsonb_build_object('schema', con.nspname, 'name', co.collname) end,
          'descending', i.indoption[k.n - 1] & 1 = 1, 'nullsFirst', i.indoption[k.n - 1] & 2 = 2,
          'ordered', pg_indexam_has_property(c.relam, 'can_order')) order by k.n)
        from unnest(i.indkey::int2[]) with ordinality as k(attnum, n)
        left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        join pg_attribute ia on ia.attrelid = i.indexrelid and ia.attnum = k.n
        left join pg_opclass oc on oc.oid = i.indclass[k.n - 1]
        left join pg_namespace ocn on ocn.oid = oc.opcnamespace
        left join pg_collation co on co.oid = ia.attcollation
        left join pg_namespace con on con.oid = co.collnamespace
        where k.n <= i.indnkeyatts) as parts,
      coalesce((select jsonb_agg(a.attname order by k.n)
        from unnest(i.indkey::int2[]) with ordinality as k(attnum, n)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.n > i.indnkeyatts), '[]') as include,
      pg_get_expr(i.indpred, i.indrelid, true) as predicate,
      coalesce(to_jsonb(c.reloptions), '[]') as options,
      (select k.conname from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
        and k.conrelid = i.indrelid limit 1) as constraint
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam
    where i.indrelid = ${tableOid} and i.indisvalid and i.indisready and i.indislive
    order by not i.indisprimary, c.relname`)
}

/** The columns that an index needs at the least; undefined when it has expressions or a predicate whose columns we can't tell. */
export function plainColumns(index: Index): string[] | undefined {
  if (index.predicate !== null || index.parts.some((part) => part.column === null)) return undefined
  return [...index.parts.map((part) => part.column ?? ''), ...index.include]
}

/**
 * The columns that identify a row: of the primary key, else of the first unique index that is plain, whole, not
 * deferrable, and whose columns are all NOT NULL. INCLUDE columns are no part of it.
 */
export function identityOf(
  indexes: readonly Index[],
  notNull: ReadonlySet<string>,
): { index: Index; columns: string[] } | undefined {
  for (const index of indexes) {
    const columns = index.parts.map((part) => part.column)
    const usable = index.unique && index.immediate && !index.exclusion && index.predicate === null
    if (usable && columns.every((column) => column !== null && notNull.has(column))) {
      return { index, columns: columns.filter((column) => column !== null) }
    }
  }
  return undefined
}

/**
 * `CREATE INDEX` for another table, from parts, for a server of that major version. PostgreSQL 14 has no NULLS NOT DISTINCT:
 * there the index lets through what the source's forbids, which no copy holds.
 */
export function indexStatement(index: Index, name: string, table: QualifiedName, major: number): string {
  const parts = index.parts.map(partText)
  const options = index.options.filter((option) => /^[a-z_]+=[A-Za-z0-9_.]+$/.test(option))
  return [
    `CREATE ${index.unique ? 'UNIQUE ' : ''}INDEX ${quoteIdentifier(name)} ON ${quoteQualified(table)}`,
    `USING ${quoteIdentifier(index.method)} (${parts.join(', ')})`,
    index.include.length > 0 ? `INCLUDE (${index.include.map(quoteIdentifier).join(', ')})` : '',
    index.nullsNotDistinct && major >= 15 ? 'NULLS NOT DISTINCT' : '',
    options.length > 0 ? `WITH (${options.join(', ')})` : '',
    index.predicate === null ? '' : `WHERE (${index.predicate})`,
  ]
    .filter((part) => part !== '')
    .join(' ')
}

function partText(part: IndexPart): string {
  const what = part.column === null ? `(${part.expression})` : quoteIdentifier(part.column)
  const words = [what]
  if (part.collation) words.push(`COLLATE ${quoteQualified(part.collation)}`)
  if (part.opclass && (!part.opclass.isDefault || part.opclass.options)) words.push(operatorClass(part.opclass))
  if (part.ordered) {
    words.push(part.descending ? 'DESC' : 'ASC', part.nullsFirst ? 'NULLS FIRST' : 'NULLS LAST')
  }
  return words.join(' ')
}

function operatorClass(opclass: NonNullable<IndexPart['opclass']>): string {
  const name = quoteQualified(opclass)
  const options = (opclass.options ?? []).filter((option) => /^[a-z_]+=[A-Za-z0-9_.]+$/.test(option))
  return options.length > 0 ? `${name} (${options.join(', ')})` : name
}
