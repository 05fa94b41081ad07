import type { Control } from '../control/control.ts'
import { connectDatabase, type Environment, getDatabase, listDatabases } from '../control/databases.ts'
import { checkDefinition } from '../jobs/definition-check.ts'
import { type HistoryRow, jobHistory } from '../jobs/past.ts'
import { cancelJobRuns, requestRuns } from '../jobs/requests.ts'
import {
  addJob,
  changeJob,
  databasesOf,
  deleteJob,
  findJob,
  type Job,
  type JobOptions,
  listJobs,
  pauseJob,
  resumeJob,
} from '../jobs/store.ts'
import { parseNameParts, quoteQualified } from '../postgres/identifier.ts'

/** How a job is run, whatever it does. Intervals are texts as PostgreSQL writes them: `'10 minutes'`. */
export interface JobChoices {
  /** People call it so. */
  readonly name?: string | null
  /** Of this and `cron` at most one. With neither, and no `after`, it runs when somebody asks for it. */
  readonly scheduleInterval?: string | null
  /** Five fields or six, or `@every 10s`. */
  readonly cron?: string | null
  /** Default: UTC. */
  readonly timezone?: string | null
  readonly initialStart?: Date | null
  /** Default: true: slots stay on their grid, however long runs take. */
  readonly fixedSchedule?: boolean
  /** false: paused from the beginning. */
  readonly scheduled?: boolean
  readonly site?: string | null
  readonly pool?: string | null
  /** -1000 to 1000. Default: 0. */
  readonly priority?: number
  /** Default: '0', as long as it takes. */
  readonly maxRuntime?: string
  /** Failures in a row after which it is paused. Default: -1, never. */
  readonly maxRetries?: number
  /** Default: '5 minutes'. */
  readonly retryPeriod?: string
  /** `now`, `never`, or an interval. */
  readonly retryOnCrash?: string | null
  /** Default: skip. */
  readonly overlap?: 'skip' | 'buffer' | 'allow' | 'cancel'
  readonly catchUp?: string | null
  readonly jitter?: string
  /** Numbers of jobs that must have succeeded before; `'1001:done'`: that must have ended. */
  readonly after?: readonly (number | `${number}:done`)[]
}

/** What a job does, and where. */
export type JobAction =
  | {
      /** A procedure or function `(integer, jsonb)`, written as in SQL: `public.refresh_marts`. */
      readonly proc: string
      /** A function `(jsonb)` that raises an error where it refuses the configuration. */
      readonly checkConfig?: string | null
      readonly config?: unknown
      /** A registered one, or `tag:T` for each that has the tag. Default: the only one there is. */
      readonly database?: string
    }
  | { readonly statements: readonly string[]; readonly database?: string }
  | { readonly task: string; readonly config?: unknown; readonly database?: string }

/** What can be changed of a job; what is left out stays. */
export interface JobChanges extends JobChoices {
  readonly proc?: string
  readonly checkConfig?: string | null
  readonly statements?: readonly string[]
  readonly config?: unknown
  readonly database?: string
  readonly nextStart?: Date | 'infinity'
}

/** What a run of a job may be asked for with. */
export interface RunRequest {
  /** Laid over the job's configuration, key by key. */
  readonly params?: object
  /** Only there, of the databases that the job runs in. */
  readonly database?: string
}

/** Jobs of the control database. A job is named by its number, or by a name that only it has. */
export class Jobs {
  readonly #control: () => Promise<Control>
  readonly #environment: Environment

  constructor(control: () => Promise<Control>, environment: Environment) {
    this.#control = control
    this.#environment = environment
  }

  /**
   * Makes a job; returns its number. What a procedure's job calls is looked up, and its check asked, in each of its databases
   * first. Throws `wrong_usage`, `action_missing`, `config_refused`, `dependency_cycle`, `database_unknown`.
   */
  async add(job: JobAction & JobChoices): Promise<number> {
    const control = await this.#control()
    const { options, config } = asOptions(job)
    const isScheduled = [job.scheduleInterval ?? job.cron, job.after?.[0]].some((one) => one != null)
    // Without it, a job that nothing starts would be taken for a slip.
    const whole = { ...options, ...(isScheduled ? {} : { schedule_interval: null }) }
    const found = 'proc' in job ? await this.#verified(control, job, config ?? null) : {}
    return addJob(control.session, { options: { ...whole, ...found }, config })
  }

  /** Where what it calls has changed, a worker looks it up before the next run. */
  async alter(job: number | string, changes: JobChanges): Promise<Job> {
    const control = await this.#control()
    const found = await findJob(control, String(job))
    await changeJob(control.session, found, asOptions(changes))
    return findJob(control, String(found.job_id))
  }

  async list(): Promise<Job[]> {
    return listJobs(await this.#control())
  }

  /** Throws `job_unknown`, `job_ambiguous`. */
  async get(job: number | string): Promise<Job> {
    return findJob(await this.#control(), String(job))
  }

  /** What runs goes on. */
  async pause(job: number | string, note: string | null = null): Promise<void> {
    const control = await this.#control()
    await pauseJob(control, await findJob(control, String(job)), note, false)
  }

  async resume(job: number | string): Promise<void> {
    const control = await this.#control()
    await resumeJob(control, await findJob(control, String(job)))
  }

  /** What runs is broken off; the history stays. */
  async delete(job: number | string): Promise<void> {
    const control = await this.#control()
    await deleteJob(control, await findJob(control, String(job)))
  }

  /** Hands runs to the workers, one in each of the job's databases; returns their ids, for `runs.wait`. */
  async run(job: number | string, { params, database }: RunRequest = {}): Promise<string[]> {
    const control = await this.#control()
    const found = await findJob(control, String(job))
    return requestRuns(control, found, params === undefined ? null : JSON.stringify(params), database ?? null)
  }

  /** Calls off what is open of it; returns how many runs that were. */
  async cancel(job: number | string): Promise<number> {
    const control = await this.#control()
    return cancelJobRuns(control, await findJob(control, String(job)))
  }

  /** Its runs, newest first. */
  async history(job: number | string, limit = 50): Promise<HistoryRow[]> {
    const control = await this.#control()
    return jobHistory(control, (await findJob(control, String(job))).job_id, limit)
  }

  async #verified(
    control: Control,
    { proc, checkConfig, database }: Extract<JobAction, { proc: string }>,
    config: string | null,
  ): Promise<object> {
    const place = database ?? (await onlyDatabase(control))
    // What is wrong with that is the control database's to say.
    if (place === undefined) return {}
    if (!place.startsWith('tag:')) await getDatabase(control, place)
    const action = await checkDefinition(
      (name) => connectDatabase(control, name, this.#environment, { side: 'database', purpose: 'check a job' }),
      await databasesOf(control, place),
      { action: routine(proc), check: checkConfig == null ? null : routine(checkConfig), config },
    )
    return { proc: quoteQualified(action), verified: true }
  }
}

async function onlyDatabase(control: Control): Promise<string | undefined> {
  const all = await listDatabases(control)
  return all.length === 1 ? all[0]?.name : undefined
}

function routine(text: string): { schema: string | null; name: string } {
  const parts = parseNameParts(text)
  return { schema: parts.length > 1 ? (parts[0] ?? null) : null, name: parts.at(-1) ?? '' }
}

/** As the control database names them: `maxRuntime` is `max_runtime` there. What is undefined is left out. */
function asOptions({ config, ...choices }: Readonly<Record<string, unknown>> | JobChanges): JobOptions {
  const named = Object.entries(choices).map(([key, value]) => [
    key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value,
  ])
  return { options: Object.fromEntries(named), config: config === undefined ? undefined : JSON.stringify(config) }
}
