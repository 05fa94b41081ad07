/**
 * Yardmaster as a library: tasks in TypeScript, workers in your own process, and what the command line does for jobs, runs and
 * alerts. Begin with `openYardmaster`. Every error has a code (`Failure`); importing this does nothing.
 */
export { Failure } from './base/failure.ts'
export type { HistoryRow } from './jobs/past.ts'
export type { Job } from './jobs/store.ts'
export type { Alerts } from './library/alerts.ts'
export type { JobAction, JobChanges, JobChoices, Jobs, RunRequest } from './library/jobs.ts'
export type { RunFilter, Runs } from './library/runs.ts'
export type { StandardSchema } from './library/standard-schema.ts'
export type { Logger, TaskContext, TaskOptions } from './library/task-registry.ts'
export type { Working, WorkOptions } from './library/working.ts'
export {
  openYardmaster,
  type RegisteredTask,
  type TaskJob,
  type Yardmaster,
  type YardmasterOptions,
} from './library/yardmaster.ts'
export type { OpenAlert } from './monitoring/alerts.ts'
export type { RunRow, StepRow } from './monitoring/run-history.ts'
