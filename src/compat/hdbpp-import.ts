import type { Failure } from '../base/failure.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { type HdbppDeployment, loadHdbppFile } from './hdbpp-file.ts'
import { openHdbpp, toOurSettings } from './hdbpp-session.ts'
import { type HdbppJob, type HdbppStats, type HdbppTables, readJobs, readStats, requireTables } from './hdbpp-tables.ts'

/** A row of its jobs, with what was counted of it. */
export interface HdbppPastJob extends HdbppJob {
  readonly stats: HdbppStats | null
}

/** A deployment of hdbpp-postprocessing with what it has been running. */
export interface HdbppInstallation extends HdbppDeployment {
  readonly jobs: readonly HdbppPastJob[]
  /** null where nothing was read. */
  readonly tables: HdbppTables | null
  /** Why nothing was read: then there are no jobs here. */
  readonly failure: Failure | null
}

/** Reads the file and what all its databases have, and changes nothing. Throws `hdbpp_file_invalid`. */
export async function readHdbpp(
  file: string,
  how: { signal?: AbortSignal; passwordFile?: string | undefined } = {},
): Promise<HdbppInstallation[]> {
  const { deployments } = await loadHdbppFile(file)
  const found: HdbppInstallation[] = []
  for (const deployment of deployments) {
    try {
      found.push({ ...deployment, ...(await readDeployment(deployment, how)), failure: null })
    } catch (error) {
      const failure = toFailure(error, { side: 'database', object: deployment.name })
      found.push({ ...deployment, jobs: [], tables: null, failure })
    }
  }
  return found
}

async function readDeployment(
  deployment: HdbppDeployment,
  how: { signal?: AbortSignal; passwordFile?: string | undefined },
): Promise<Pick<HdbppInstallation, 'jobs' | 'tables'>> {
  const { session, close } = await openHdbpp(deployment, how)
  try {
    const tables = await requireTables(session)
    await toOurSettings(session)
    const stats = await readStats(session, tables)
    const jobs = await readJobs(session, tables)
    return { jobs: jobs.map((job) => ({ ...job, stats: stats.get(job.job_id) ?? null })), tables }
  } finally {
    await close()
  }
}
