import { crashPoint } from '../../base/crash-point.ts'
import { Failure } from '../../base/failure.ts'
import { displayName, quoteIdentifier } from '../../postgres/identifier.ts'
import { identifier, join, relation, type Sql, sql, trusted } from '../../postgres/sql.ts'
import { destinationLabel } from '../definition.ts'
import type { Increment, IncrementPlan } from '../increment.ts'
import { type Loaded, loadFrozen } from '../load.ts'
import type { StepReport } from '../reporter.ts'
import type { RowKey } from '../row-key.ts'
import type { Chunk } from '../source-read.ts'

const stagingName = { schema: 'pg_temp', name: 'yardmaster_staging' }
const keptName = { schema: 'pg_temp', name: 'yardmaster_kept' }

/** Where rows wait that replace others by their key. It lives as long as the transaction. */
export class Staging {
  readonly table = stagingName
  readonly #work: Increment
  readonly #plan: IncrementPlan
  readonly #key: RowKey
  #rows = 0

  private constructor(work: Increment, plan: IncrementPlan, key: RowKey) {
    this.#work = work
    this.#plan = plan
    this.#key = key
  }

  /** In the caller's transaction. Throws `permission_denied` with the grant. */
  static async make(work: Increment, plan: IncrementPlan, key: RowKey): Promise<Staging> {
    const { destination } = work
    const columns = join(plan.columns.map((column) => identifier(column.name)))
    try {
      await destination.query(sql`
        create temporary table ${relation(stagingName)} on commit drop as
          select ${columns} from ${relation(plan.standing.table)} with no data`)
    } catch (error) {
      const failure = destination.failure(error)
      if (failure.code !== 'permission_denied') throw failure
      const { database, user } = destination.parts
      throw new Failure('permission_denied', {
        message: `Our role may not make temporary tables in ${destination.object}, in which an updater's rows wait.`,
        object: destinationLabel(work.context.replication),
        remedy: `As its owner: GRANT TEMPORARY ON DATABASE ${quoteIdentifier(database)} TO ${quoteIdentifier(user)};`,
        cause: failure,
      })
    }
    return new Staging(work, plan, key)
  }

  /** Brings one read of the source here. */
  async load(chunk: Chunk, step: StepReport): Promise<Loaded> {
    const { source, destination } = this.#work
    const target = {
      table: stagingName,
      columns: this.#plan.columns.map((column) => column.name),
      format: this.#plan.format,
    }
    const loaded = await loadFrozen(source, chunk, destination, target, false, step)
    this.#rows += loaded.rows
    crashPoint('increment-after-staging')
    return loaded
  }

  /** Puts the rows into the destination, each in the place of the one with its key. */
  async apply(): Promise<void> {
    if (this.#key.isGiven) await this.#refuseNullKeys()
    const { destination } = this.#work
    const set = await this.#settable()
    await destination.script('savepoint apply')
    try {
      const changed = await destination.affected(this.#upsert(set))
      if (set.length > 0) this.#requireAll(changed)
    } catch (error) {
      const failure = destination.failure(error)
      if (failure.sqlstate !== '21000' && failure.sqlstate !== '23505') throw failure
      await destination.script('rollback to savepoint apply')
      await this.#refuseTwins()
      if (failure.sqlstate === '21000') throw failure
      // Another unique index: two rows may have exchanged their values, and each is in the other's way.
      await this.#replace()
    }
  }

  /** Rows of both have the same key. Types of extensions have operators that no path of ours leads to: they go by their text. */
  sameKey(one: Sql, other: Sql): Sql {
    const tests = this.#key.columns.map((name) => {
      const [a, b] = [sql`${one}.${identifier(name)}`, sql`${other}.${identifier(name)}`]
      return this.isPlain(name) ? sql`${a} = ${b}` : sql`${a}::text = ${b}::text`
    })
    return join(tests, ' and ')
  }

  isPlain(column: string): boolean {
    const { table, types } = this.#plan.standing
    const found = table.columns.find((one) => one.name === column)
    return found !== undefined && types.isBuiltIn(types.baseOf(found.typeOid).oid)
  }

  /** Columns that ON CONFLICT may set. Throws `column_generated` for an identity that is no part of the key. */
  async #settable(): Promise<string[]> {
    const { destination, context } = this.#work
    const rows = await destination.query<{ name: string }>(sql`
      select attname as name from pg_attribute
      where attrelid = ${this.#plan.standing.table.oid}::oid and attidentity = 'a' and not attisdropped`)
    const fixed = rows.map((row) => row.name)
    const names = this.#plan.columns.map((column) => column.name)
    const refused = fixed.find((name) => names.includes(name) && !this.#key.columns.includes(name))
    if (refused === undefined) return names.filter((name) => !fixed.includes(name))
    const label = destinationLabel(context.replication)
    throw new Failure('column_generated', {
      message: `The column ${displayName(refused)} of ${label} is GENERATED ALWAYS AS IDENTITY; an updater cannot change it there.`,
      object: label,
      remedy: `ALTER TABLE ${relation(this.#plan.standing.table).text} ALTER COLUMN ${quoteIdentifier(refused)} SET GENERATED BY DEFAULT;`,
    })
  }

  #upsert(set: readonly string[]): Sql {
    const columns = join(this.#plan.columns.map((column) => identifier(column.name)))
    const key = join(this.#key.columns.map(identifier))
    const changes = join(set.map((name) => sql`${identifier(name)} = excluded.${identifier(name)}`))
    const action = set.length > 0 ? sql`update set ${changes}` : sql`nothing`
    return sql`insert into ${relation(this.#plan.standing.table)} (${columns}) overriding system value
      select ${columns} from ${relation(stagingName)} on conflict (${key}) do ${action}`
  }

  /** All of the old rows go before the first new one comes. Columns that only the destination has keep their values. */
  async #replace(): Promise<void> {
    const { destination } = this.#work
    const { table } = this.#plan.standing
    const planned = this.#plan.columns.map((column) => column.name)
    const own = table.columns.filter((one) => !one.generated && !planned.includes(one.name)).map((one) => one.name)
    const [d, s, k] = [trusted('d'), trusted('s'), trusted('k')]
    const of = (from: Sql, names: readonly string[]) => join(names.map((name) => sql`${from}.${identifier(name)}`))
    const names = (list: readonly string[]) => join(list.map(identifier))
    await destination.query(sql`
      create temporary table ${relation(keptName)} on commit drop as
        select ${of(d, [...this.#key.columns, ...own])} from ${relation(table)} d
        join ${relation(stagingName)} s on ${this.sameKey(d, s)}`)
    await destination.query(
      sql`delete from ${relation(table)} d using ${relation(stagingName)} s where ${this.sameKey(d, s)}`,
    )
    const known = await destination.affected(sql`
      insert into ${relation(table)} (${names([...planned, ...own])}) overriding system value
        select ${join([of(s, planned), ...own.map((name) => sql`k.${identifier(name)}`)])}
        from ${relation(stagingName)} s join ${relation(keptName)} k on ${this.sameKey(s, k)}`)
    const fresh = await destination.affected(sql`
      insert into ${relation(table)} (${names(planned)}) overriding system value
        select ${of(s, planned)} from ${relation(stagingName)} s
        where not exists (select from ${relation(keptName)} k where ${this.sameKey(s, k)})`)
    this.#requireAll(known + fresh)
  }

  #requireAll(changed: number): void {
    if (changed === this.#rows) return
    const label = destinationLabel(this.#work.context.replication)
    throw new Failure('destination_unsuitable', {
      message: `${this.#rows - changed} of ${this.#rows} rows did not get into ${label}: a trigger of it keeps them out. Nothing was changed.`,
      object: label,
      remedy: 'Drop or disable that trigger, or leave those rows out with --where.',
    })
  }

  async #refuseNullKeys(): Promise<void> {
    const { destination } = this.#work
    const tests = this.#key.columns.map((name) => sql`${identifier(name)} is null`)
    const row = await destination.one<{ count: string }>(
      sql`select count(*) as count from ${relation(stagingName)} where ${join(tests, ' or ')}`,
    )
    if (row.count !== '0') throw this.#wrongKey(`sent ${row.count} rows with NULL in the key`)
  }

  /** Throws `key_not_unique` where two rows here have one key. */
  async #refuseTwins(): Promise<void> {
    const { destination } = this.#work
    const columns = this.#key.columns.map(identifier)
    const row = await destination.first<{ key: string; count: string }>(sql`
      select concat_ws(', ', ${join(columns.map((column) => sql`${column}::text`))}) as key, count(*) as count
      from ${relation(stagingName)} group by ${join(columns)} having count(*) > 1 limit 1`)
    if (row) throw this.#wrongKey(`sent ${row.count} rows with the key '${row.key}'`)
  }

  #wrongKey(what: string): Failure {
    const { source, context } = this.#work
    return new Failure('key_not_unique', {
      message: `${source.session.object} ${what}, (${this.#key.columns.map(displayName).join(', ')}), in one batch for ${destinationLabel(context.replication)}; nothing was copied.`,
      object: destinationLabel(context.replication),
    })
  }
}

/** updater: each row takes the place of the one with its key. For the caller's transaction. */
export async function replaceRows(
  work: Increment,
  plan: IncrementPlan,
  key: RowKey,
  chunk: Chunk,
  step: StepReport,
): Promise<Loaded> {
  const staging = await Staging.make(work, plan, key)
  const loaded = await staging.load(chunk, step)
  await staging.apply()
  return loaded
}
