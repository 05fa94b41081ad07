import { crashPoint } from '../../base/crash-point.ts'
import type { Session } from '../../postgres/connect.ts'
import { displayQualified } from '../../postgres/identifier.ts'
import { relation, sql } from '../../postgres/sql.ts'
import { destinationLabel, sourceLabel } from '../definition.ts'
import { planIndexes } from '../destination-indexes.ts'
import type { Link } from '../link.ts'
import type { Position } from '../position.ts'
import type { RefreshContext } from '../refresh-context.ts'
import type { RefreshResult } from '../reporter.ts'
import { resetSequences } from '../sequences.ts'
import { openSource, readIndexed, wholeRead } from '../source-read.ts'
import { loadedThenBroken, notEmptied, planTable, reloadTable } from '../table-reload.ts'

/** table: empties and reloads one plain table in one transaction, in one stream, made where it is absent. */
export async function refreshTable(
  context: RefreshContext,
  link: Link,
  destination: Session,
  position: Position,
): Promise<RefreshResult> {
  const { replication, reporter } = context
  const label = destinationLabel(replication)
  const planning = reporter.step('plan')
  const copiedAt = new Date().toISOString()
  const source = await openSource(link, replication)
  const indexes = replication.buildIndexes
    ? planIndexes(await readIndexed(source), replication.destination, {
        filtered: replication.columns !== null,
        major: destination.major,
      })
    : []
  const plan = await planTable(context, destination, position, source, indexes)
  const also = plan.emptiedToo.map(displayQualified).join(', ')
  const warnings = also === '' ? [] : [`TRUNCATE CASCADE also empties ${also}.`]
  planning.done(
    [`${plan.format} copy of ${sourceLabel(replication)} in one stream.`, ...warnings].join(' '),
    warnings.length > 0 ? 'WARNING' : 'OK',
  )
  const skipData = !replication.loadData && replication.status === 'setting_up'
  const sampledAt = performance.now()
  const outcome = await reloadTable(context, destination, source, plan, {
    chunk: skipData ? null : wholeRead(source),
    moved: async () => ({ copiedAt }),
  })
  if ('blocked' in outcome) return notEmptied(context, outcome.blocked)
  const { loaded, broken } = outcome
  if (broken) return loadedThenBroken(context, broken, loaded)
  await link.end(source.session)
  crashPoint('table-after-commit')
  await setSequencesAndAnalyze(context, destination)
  return {
    level: warnings.length > 0 ? 'WARNING' : 'OK',
    reason: null,
    tookEffect: true,
    message: [`${label}: ${loaded.rows} rows copied.`, ...warnings].join(' '),
    ...loaded,
    ...(skipData ? {} : { reach: { position: null, sampledAt, behind: 0 } }),
  }
}

async function setSequencesAndAnalyze(context: RefreshContext, destination: Session): Promise<void> {
  const { replication, reporter } = context
  if (replication.sequences.length > 0) {
    const step = reporter.step('sequences')
    step.done(await resetSequences(destination, replication.sequences, destinationLabel(replication)))
    crashPoint('table-after-sequences')
  }
  const step = reporter.step('analyze')
  await destination.query(sql`analyze ${relation(replication.destination)}`)
  step.done()
  crashPoint('load-after-analyze')
}
