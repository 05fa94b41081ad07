import { identifier, join, literal, relation, type Sql, sql, trusted } from '../../postgres/sql.ts'
import type { TypeCatalog } from '../../postgres/type-catalog.ts'
import { fromClause } from '../condition.ts'
import type { Increment, IncrementPlan } from '../increment.ts'
import type { Mark } from '../mark.ts'
import type { StepReport } from '../reporter.ts'
import type { RowKey } from '../row-key.ts'
import { openReader, rowsRead } from '../source-read.ts'
import type { Staging } from './updater.ts'

/** Keys that the source is asked for at once. */
const pageRows = 1000

interface Removal {
  readonly staging: Staging
  readonly key: RowKey
  /** Rows of the destination that a range holds. */
  readonly going: readonly Sql[]
  /** The position when this is done. */
  readonly mark: Mark
  readonly step: StepReport
}

interface Candidate {
  /** Text forms of the key's values. */
  readonly keys: readonly string[]
  /** Whether the row lies behind the position, where none of ours is. */
  readonly beyond: boolean
}

/**
 * Deletes rows of a range that the source has no more. A row that left the range at the source, because its control value
 * changed, is not lost: it stays until the refresh that its new value comes with, or is brought at once when that value
 * is within the position already. For the caller's transaction, before the staged rows are applied; returns how many went.
 */
export async function removeStale(work: Increment, plan: IncrementPlan, removal: Removal): Promise<number> {
  const { destination } = work
  const { standing } = plan
  const { key, staging, going, mark } = removal
  const table = sql`${relation(standing.table)} as ${identifier(standing.table.name)}`
  const mine = identifier(standing.table.name)
  const keys = join(key.columns.map((name) => sql`${mine}.${identifier(name)}::text`))
  const beyond = standing.control ? sql`not (${standing.control.upTo(mark)})` : sql`false`
  // Text of its own: a cursor's statement takes values as literals only.
  await destination.query(sql`
    declare yardmaster_stale no scroll cursor for select array[${keys}] as keys, ${beyond} as beyond from ${table}
    where ${join(going, ' and ')} and not exists (
      select from ${relation(staging.table)} s where ${staging.sameKey(mine, trusted('s'))})`)
  let removed = 0
  for (;;) {
    const page = await destination.query<Candidate>(trusted(`fetch ${pageRows} from yardmaster_stale`))
    if (page.length === 0) break
    removed += await removePage(work, plan, removal, page)
  }
  await destination.query(sql`close yardmaster_stale`)
  return removed
}

async function removePage(
  work: Increment,
  plan: IncrementPlan,
  { staging, key, mark, step }: Removal,
  page: readonly Candidate[],
): Promise<number> {
  const { source, destination, control } = work
  const session = await openReader(source)
  const isListed = listed(source.relation.name, key, source.columns, source.types)
  const known = await session.query<{ n: string; ripe: boolean }>(sql`
    select (select k.n from ${keyList(page, key)} where ${isListed} limit 1) as n,
      coalesce(${join(control.between(null, mark), ' and ')}, false) as ripe
    ${fromClause(relation(source.relation), source.condition, [sql`exists (select from ${keyList(page, key)} where ${isListed})`])}`)
  if (known.some((row) => row.ripe)) {
    const tests = [...control.between(null, mark), sql`exists (select from ${keyList(page, key)} where ${isListed})`]
    await staging.load(rowsRead(source, tests), step)
  }
  const staying = new Map(known.map((row) => [Number(row.n), row.ripe]))
  const gone = page.filter(({ beyond }, index) => {
    const ripe = staying.get(index + 1)
    return ripe === undefined || (!ripe && beyond)
  })
  if (gone.length === 0) return 0
  const { table, types } = plan.standing
  return destination.affected(sql`
    delete from ${relation(table)} as ${identifier(table.name)} using ${keyList(gone, key)}
    where ${listed(table.name, key, table.columns, types)}`)
}

/** The keys of a page as a relation `k` of text columns and a number: literals, because COPY takes no values. */
function keyList(page: readonly Candidate[], key: RowKey): Sql {
  const arrays = key.columns.map((_, index) => {
    const values = page.map(({ keys }) => literal(keys[index] ?? ''))
    return sql`array[${join(values)}]::text[]`
  })
  const names = key.columns.map((_, index) => trusted(`c${index}`))
  return sql`unnest(${join(arrays)}) with ordinality as k(${join([...names, trusted('n')])})`
}

/** Whether a row has a key of the list. Built-in types are compared by their own operator, so that an index is used. */
function listed(
  table: string,
  key: RowKey,
  columns: readonly { name: string; typeOid: number }[],
  types: TypeCatalog,
): Sql {
  const tests = key.columns.map((name, index) => {
    const column = sql`${identifier(table)}.${identifier(name)}`
    const oid = types.baseOf(columns.find((one) => one.name === name)?.typeOid ?? 0).oid
    const value = trusted(`k.c${index}`)
    if (!types.isBuiltIn(oid)) return sql`${column}::text = ${value}`
    return sql`${column} = ${value}::pg_catalog.${identifier(types.name(oid))}`
  })
  return join(tests, ' and ')
}
