import { Failure } from '../base/failure.ts'
import { type Relation, type RelationRow, relationOf, selectRelation } from '../postgres/catalog.ts'
import type { Session } from '../postgres/connect.ts'
import type { QualifiedName } from '../postgres/identifier.ts'
import { relation, type Sql, sql, trusted } from '../postgres/sql.ts'
import { readTypes, type TypeCatalog } from '../postgres/type-catalog.ts'
import { type Control, destinationControl } from './control-column.ts'
import { destinationLabel, type Replication } from './definition.ts'
import type { Position, PositionState } from './position.ts'

/** The destination table of an incremental type, as it stands. */
export interface Standing {
  readonly table: Relation
  readonly types: TypeCatalog
  /** Undefined where its column there has another order than the source's. */
  readonly control: Control | undefined
  /** Whether an index leads to its largest control value at once. */
  readonly isOrdered: boolean
}

/** What somebody else did to the destination's rows since we last wrote there. */
export interface Tampering {
  /** Its largest finite control value; undefined where no index tells. */
  readonly highest: string | null | undefined
  /** That value, where it lies behind the position: somebody inserted. */
  readonly inserted: string | undefined
  /** Whether it lies below what we left there: somebody deleted. */
  readonly deleted: boolean
}

/** Looks the destination up; undefined where there is none. Throws `destination_unsuitable` for an unlogged one. */
export async function readStanding(destination: Session, replication: Replication): Promise<Standing | undefined> {
  const name = replication.control?.column ?? ''
  const [[row], [index]] = await destination.queries<[RelationRow[], { ordered: boolean }[]]>([
    selectRelation(replication.destination),
    selectOrdered(replication.destination, name),
  ])
  const table = relationOf(replication.destination, row)
  if (!table) return undefined
  refuseUnlogged(table, replication)
  const types = await readTypes(
    destination,
    table.columns.map((column) => column.typeOid),
  )
  const control = destinationControl(table.columns, types, name, table.name)
  return { table, types, control, isOrdered: control !== undefined && index?.ordered === true }
}

/** A crash of its server would empty it, and leave the position. */
export function refuseUnlogged(table: Relation, replication: Replication): void {
  if (table.persistence === 'p') return
  const label = destinationLabel(replication)
  throw new Failure('destination_unsuitable', {
    message: `${label} is unlogged: a crash of its server would empty it, and the ${replication.type} would never bring the rows again; nothing was copied.`,
    object: label,
    remedy: `ALTER TABLE ${relation(table).text} SET LOGGED;`,
  })
}

/** Throws `destination_replaced` where the table is not the one that the position belongs to. */
export function requireSameTable(
  standing: Standing | undefined,
  position: Position,
  replication: Replication,
): asserts standing is Standing {
  if (standing && standing.table.oid === position.state.liveOid) return
  const label = destinationLabel(replication)
  throw new Failure('destination_replaced', {
    message: standing
      ? `${label} is another table than the one that was copied into: its oid is ${standing.table.oid}, and was ${position.state.liveOid ?? 'none'}. What is missing in it cannot be told; nothing was copied.`
      : `${label} is gone; nothing was copied.`,
    object: label,
    remedy: `Copy it anew: yardmaster replication resync ${label}`,
  })
}

/** Whether an index leads to a column's largest value. */
function selectOrdered({ schema, name }: QualifiedName, column: string): Sql {
  return sql`
    select exists (
      select from pg_index i
      where i.indrelid = (select t.oid from pg_class t join pg_namespace n on n.oid = t.relnamespace
          where n.nspname = ${schema} and t.relname = ${name})
        and i.indisvalid and i.indpred is null
        and (select m.amname from pg_class c join pg_am m on m.oid = c.relam where c.oid = i.indexrelid) = 'btree'
        and (select a.attname from pg_attribute a
          where a.attrelid = i.indrelid and a.attnum = i.indkey[0]) = ${column}) as ordered`
}

/** The largest finite control value; undefined where no index tells it, null where there is no row. */
export async function highestOf(destination: Session, standing: Standing): Promise<string | null | undefined> {
  const { control, table, isOrdered } = standing
  if (!control || !isOrdered) return undefined
  return largestOf(destination, table, control)
}

/** The same, whatever it costs. */
export async function largestOf(destination: Session, table: Relation, control: Control): Promise<string | null> {
  const row = await destination.first<{ value: string }>(sql`select value::text as value ${largest(table, control)}`)
  return row?.value ?? null
}

function largest(table: Relation, control: Control): Sql {
  return sql`from (select ${control.ref} as value from ${relation(table)} where ${control.finite} order by ${control.ref} desc limit 1) as d`
}

/** Compares the destination with the position that was stored with its rows. */
export async function findTampering(
  destination: Session,
  standing: Standing,
  state: PositionState,
): Promise<Tampering> {
  const { control, isOrdered, table } = standing
  if (!control || !isOrdered) return { highest: undefined, inserted: undefined, deleted: false }
  const { mark, highest } = state
  const beyond = mark ? sql`value ${trusted(mark.inclusive ? '>' : '>=')} ${control.value(mark.value)}` : sql`true`
  const lower = typeof highest === 'string' ? sql`value < ${control.value(highest)}` : sql`false`
  const row = await destination.first<{ value: string; beyond: boolean; lower: boolean }>(
    sql`select value::text as value, ${beyond} as beyond, ${lower} as lower ${largest(table, control)}`,
  )
  if (!row) return { highest: null, inserted: undefined, deleted: typeof highest === 'string' }
  return { highest: row.value, inserted: row.beyond ? row.value : undefined, deleted: row.lower }
}
