import type { Increment, IncrementPlan } from '../increment.ts'
import { type Loaded, loadFrozen } from '../load.ts'
import type { StepReport } from '../reporter.ts'
import type { Chunk } from '../source-read.ts'

/** inserter: appends rows, by COPY straight into the table. For the caller's transaction. */
export async function appendRows(
  { context, destination, source }: Increment,
  plan: IncrementPlan,
  chunk: Chunk,
  step: StepReport,
): Promise<Loaded> {
  const columns = plan.columns.map((column) => column.name)
  const target = { table: context.replication.destination, columns, format: plan.format }
  return loadFrozen(source, chunk, destination, target, false, step)
}
