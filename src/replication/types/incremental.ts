import { Failure } from '../../base/failure.ts'
import type { RefreshContext } from '../refresh-context.ts'
import type { RefreshResult } from '../reporter.ts'

/** inserter and updater: brings the rows that are new by their control column. */
export async function refreshIncremental(context: RefreshContext): Promise<RefreshResult> {
  throw new Failure('internal_error', { message: `The type ${context.replication.type} is not there yet.` })
}
