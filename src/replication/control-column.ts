import { Failure } from '../base/failure.ts'
import type { Column } from '../postgres/catalog.ts'
import { displayName } from '../postgres/identifier.ts'
import { identifier, literal, type Sql, sql, trusted } from '../postgres/sql.ts'
import type { TypeCatalog } from '../postgres/type-catalog.ts'
import { type ControlColumn, type Replication, sourceLabel } from './definition.ts'
import type { Mark } from './mark.ts'
import type { SourceRead } from './source-read.ts'

/** A type that a control column may have. Its object id is the same on every server. */
interface ControlType {
  readonly by: ControlColumn['by']
  /** As SQL. */
  readonly name: string
  /** Values that are no place in the order of rows. */
  readonly unusual: readonly string[]
}

const infinities = ['-infinity', 'infinity']

const controlTypes: ReadonlyMap<number, ControlType> = new Map([
  [1082, { by: 'time', name: 'pg_catalog.date', unusual: infinities }],
  [1114, { by: 'time', name: 'pg_catalog.timestamp', unusual: infinities }],
  [1184, { by: 'time', name: 'pg_catalog.timestamptz', unusual: infinities }],
  [21, { by: 'serial', name: 'pg_catalog.int2', unusual: [] }],
  [23, { by: 'serial', name: 'pg_catalog.int4', unusual: [] }],
  [20, { by: 'serial', name: 'pg_catalog.int8', unusual: [] }],
  [1700, { by: 'serial', name: 'pg_catalog."numeric"', unusual: [...infinities, 'NaN'] }],
  [700, { by: 'serial', name: 'pg_catalog.float4', unusual: [...infinities, 'NaN'] }],
  [701, { by: 'serial', name: 'pg_catalog.float8', unusual: [...infinities, 'NaN'] }],
] as const)

const timestampWithoutZone = 1114

/** The control column as one side has it: how it is named there, and how a value is written. */
export class Control {
  readonly name: string
  /** The column, as a statement names it. */
  readonly ref: Sql
  readonly notNull: boolean
  /** Whether its values are local times of some zone. */
  readonly isLocal: boolean
  readonly isTime: boolean
  /** As SQL. */
  readonly typeName: string
  readonly #type: ControlType

  constructor(column: Pick<Column, 'name' | 'notNull'>, typeOid: number, type: ControlType, table: string) {
    this.name = column.name
    this.ref = sql`${identifier(table)}.${identifier(column.name)}`
    this.notNull = column.notNull
    this.isLocal = typeOid === timestampWithoutZone
    this.isTime = type.by === 'time'
    this.typeName = type.name
    this.#type = type
  }

  /** A value, as a literal of the column's type. It never goes through a number or date of ours. */
  value(text: string): Sql {
    return sql`${literal(text)}::${trusted(this.#type.name)}`
  }

  /** An expression, as a value of the column's type. */
  cast(expression: Sql): Sql {
    return sql`(${expression})::${trusted(this.#type.name)}`
  }

  /** The column has a value that is some place in the order of rows. */
  get finite(): Sql {
    if (this.#type.unusual.length === 0) return sql`${this.ref} is not null`
    return sql`${this.ref} > ${this.value('-infinity')} and ${this.ref} < ${this.value('infinity')}`
  }

  /** The column has none, or one that no copy can go by; undefined where that cannot be. */
  get unusual(): Sql | undefined {
    const { unusual } = this.#type
    const values = unusual.map((value) => sql`${this.ref} = ${this.value(value)}`)
    const tests = [...(this.notNull ? [] : [sql`${this.ref} is null`]), ...values]
    const [first, ...others] = tests
    return first && sql`(${others.reduce((all, test) => sql`${all} or ${test}`, first)})`
  }

  /** Rows behind a mark. */
  after(mark: Mark): Sql {
    return sql`${this.ref} ${trusted(mark.inclusive ? '>' : '>=')} ${this.value(mark.value)}`
  }

  /** Rows that a mark takes in. */
  upTo(mark: Mark): Sql {
    return sql`${this.ref} ${trusted(mark.inclusive ? '<=' : '<')} ${this.value(mark.value)}`
  }

  /** Rows between two marks, with finite values only: to COPY's and the planner's eyes a conjunction. */
  between(lower: Mark | null, upper: Mark): Sql[] {
    return [this.finite, ...(lower ? [this.after(lower)] : []), this.upTo(upper)]
  }
}

type Definition = Pick<Replication, 'sourceDatabase' | 'source' | 'columns' | 'control'>

/** How a definition says what is new. */
export function controlOf(definition: Pick<Definition, 'sourceDatabase' | 'source' | 'control'>): ControlColumn {
  if (definition.control) return definition.control
  const object = sourceLabel(definition)
  throw new Failure('internal_error', { message: `${object} has no control column.`, object })
}

/** The control column at the source. Throws `control_column_unfit`, `filter_incomplete`. */
export function sourceControl(source: Pick<SourceRead, 'relation' | 'types'>, definition: Definition): Control {
  const object = sourceLabel(definition)
  const control = controlOf(definition)
  const column = source.relation.columns.find((one) => one.name === control.column)
  if (!column) {
    throw new Failure('control_column_unfit', {
      message: `${object} has no column ${displayName(control.column)}, which --column names; it has ${source.relation.columns.map((one) => displayName(one.name)).join(', ')}.`,
      object,
    })
  }
  refuseIncomplete(definition, [column.name], 'the control column')
  const oid = source.types.baseOf(column.typeOid).oid
  const type = controlTypes.get(oid)
  if (type?.by !== control.by) throw unfit(object, column, control, type)
  return new Control(column, oid, type, source.relation.name)
}

/** Throws `filter_incomplete` where the filter leaves out a column that the copy cannot do without. */
export function refuseIncomplete(
  definition: Pick<Definition, 'sourceDatabase' | 'source' | 'columns'>,
  needed: readonly string[],
  what: string,
): void {
  const { columns } = definition
  const lacks = columns === null ? [] : needed.filter((name) => !columns.includes(name))
  if (columns === null || lacks.length === 0) return
  const object = sourceLabel(definition)
  throw new Failure('filter_incomplete', {
    message: `The column filter of ${object} leaves out ${lacks.map(displayName).join(', ')}, ${what}.`,
    object,
    remedy: `Write --columns ${[...columns, ...lacks].map(displayName).join(',')}`,
  })
}

function unfit(object: string, column: Column, control: ControlColumn, type: ControlType | undefined): Failure {
  const wanted = control.by === 'time' ? 'a date or timestamp' : 'a whole or decimal number'
  return new Failure('control_column_unfit', {
    message: `The column ${displayName(column.name)} of ${object} is ${column.type}; --by ${control.by} needs ${wanted}.`,
    object,
    remedy: type ? `Write --by ${type.by}, or name another --column.` : `Name another --column.`,
  })
}

/** The control column at the destination; undefined where its type there has another order, or none that we know. */
export function destinationControl(
  columns: readonly Column[],
  types: TypeCatalog,
  name: string,
  table: string,
): Control | undefined {
  const column = columns.find((one) => one.name === name)
  const oid = column && types.baseOf(column.typeOid).oid
  const type = oid === undefined ? undefined : controlTypes.get(oid)
  return column && oid !== undefined && type ? new Control(column, oid, type, table) : undefined
}
