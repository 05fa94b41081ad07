import { relation, sql } from '../../postgres/sql.ts'
import type { SampleBound } from '../bound.ts'
import { fromClause } from '../condition.ts'
import { sourceControl } from '../control-column.ts'

export const sampleBound: SampleBound = async (source, control, last) => {
  const read = sourceControl(source, {
    sourceDatabase: source.session.object,
    source: source.relation,
    columns: null,
    control,
  })
  const boundary = control.boundary === 'auto' ? (control.by === 'time' ? '0 s' : '0') : control.boundary
  const row =
    control.by === 'time'
      ? await source.session.one<{ value: string | null; behind: number | null }>(sql`
        select ${read.cast(sql`((clock_timestamp() - ${boundary}::interval) at time zone ${control.timezone ?? 'UTC'})`)}::text as value, extract(epoch from ${boundary}::interval)::float8 as behind`)
      : await source.session.one<{ value: string | null; behind: number | null }>(sql`
        select (max(${read.ref}) - ${boundary}::numeric)::text as value, null as behind ${fromClause(relation(source.relation), source.condition, [read.finite])}`)
  void last
  const mark = row.value === null ? null : { value: row.value, inclusive: control.by === 'serial' && boundary === '0' }
  return { mark, behind: row.behind, note: undefined, level: 'OK', memory: {} }
}
