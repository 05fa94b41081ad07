import { Failure } from '../base/failure.ts'
import { type Job, jobLabel } from '../jobs/store.ts'

/** Throws `job_refused` where a command of jobs is not for replications; `instead`: which one is, with DEST for its name. */
export function refuseReplication(job: Job, instead: string): void {
  if (job.destination === null) return
  throw new Failure('job_refused', {
    message: `${jobLabel(job)} is a replication.`.replace(/^j/, 'J'),
    object: job.destination,
    remedy: `${instead.replaceAll('DEST', job.destination)}.`,
  })
}

/** Throws `replication_broken_off` where a replication is not set up: it is neither paused nor resumed. */
export function refuseUnfinished({ status, destination }: Job): void {
  if (destination === null || status === 'active' || status === 'paused') return
  throw new Failure('replication_broken_off', {
    message: `${destination} is ${status}; only a replication that is set up is paused and resumed.`,
    object: destination,
    remedy: `Finish it first: yardmaster replication ${status === 'setting_up' ? 'refresh' : 'remove'} ${destination}`,
  })
}
