import type { SampleBound } from './bound.ts'
import type { Sampling } from './bound-sampling.ts'
import { serialBound } from './bound-serial.ts'
import { timeBound } from './bound-time.ts'
import { sourceControl } from './control-column.ts'
import { readDefaults } from './control-default.ts'
import { findBreak, readClock, readMemory } from './source-clock.ts'

/** Time: the source's clock less the boundary, or with `auto` the start of the oldest transaction. Serial: see there. */
export const sampleBound: SampleBound = async (source, control, last, signal) => {
  const definition = { sourceDatabase: source.session.object, source: source.relation, columns: null, control }
  const column = sourceControl(source, definition)
  const clock = await readClock(source.session, control)
  const before = readMemory(last.memory, control)
  const broken = last.mark ? findBreak(before, clock) : undefined
  const sampling: Sampling = {
    ...{ source, control, clock, last: last.mark, broken, signal },
    before: broken === undefined ? before : { ...before, samples: [] },
  }
  const defaults = control.boundary === 'auto' ? await readDefaults(source, column.name) : []
  return control.by === 'time' ? timeBound(sampling, column, defaults) : serialBound(sampling, column, defaults)
}
