import { Failure } from '../base/failure.ts'
import { displayName, displayQualified } from '../postgres/identifier.ts'
import type { SampleBound } from './bound.ts'
import type { Sampling } from './bound-sampling.ts'
import { serialBound } from './bound-serial.ts'
import { timeBound } from './bound-time.ts'
import { type Control, sourceControl } from './control-column.ts'
import { readDefaults } from './control-default.ts'
import { findBreak, readClock, readMemory } from './source-clock.ts'
import type { SourceRead } from './source-read.ts'

/** Time: the source's clock less the boundary, or with `auto` the start of the oldest transaction. Serial: see there. */
export const sampleBound: SampleBound = async (source, control, last, signal) => {
  const definition = { sourceDatabase: source.session.object, source: source.relation, columns: null, control }
  const column = sourceControl(source, definition)
  const clock = await readClock(source.session, control)
  const before = readMemory(last.memory, control)
  if (last.mark) refuseRetyped(source, column, before.type, last.mark.value)
  const broken = last.mark ? findBreak(before, clock) : undefined
  const sampling: Sampling = {
    ...{ source, control, clock, last: last.mark, broken, signal },
    before: broken === undefined ? before : { ...before, samples: [] },
  }
  // They say which zone's times, and which sequence's numbers, come without anybody giving them.
  const matter = control.boundary === 'auto' || column.typeName !== 'pg_catalog.timestamptz'
  const defaults = matter ? await readDefaults(source, column.name) : []
  return control.by === 'time' ? timeBound(sampling, column, defaults) : serialBound(sampling, column, defaults)
}

/** ALTER TYPE turns a time into a local one, or into a day, by a zone that nobody can tell: the position's would be off by hours. */
function refuseRetyped(source: SourceRead, column: Control, before: string | undefined, value: string): void {
  if (!column.isTime || before === undefined || before === column.typeName) return
  const object = `${source.session.object}:${displayQualified(source.relation)}`
  const [was, is] = [before, column.typeName].map((name) => name.replace('pg_catalog.', ''))
  throw new Failure('control_column_unfit', {
    message: `The column ${displayName(column.name)} of ${object} is ${is} now, and was ${was} when the position '${value}' was stored: which of its rows are copied cannot be told. Nothing was copied.`,
    object,
    remedy: 'Copy everything anew: yardmaster replication resync, with the name of the copy.',
  })
}
