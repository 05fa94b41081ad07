/** Levels as the page shows them. UNKNOWN: nothing is known yet, which is not OK. */
export type StatusLevel = 'OK' | 'WARNING' | 'CRITICAL' | 'RUNNING' | 'UNKNOWN'

/** `/status.json`. Times are RFC 3339 in UTC, unknown is null, never 0. */
export interface StatusDocument {
  /** The control server's clock: relative times count from it. */
  readonly at: string
  readonly level: StatusLevel
  /** One sentence that answers: is everything fine? */
  readonly answer: string
  /** Sentences about what this is. */
  readonly about: readonly string[]
  /** Those that are open, worst and oldest first: the first ones, and how many there are. */
  readonly alerts: readonly StatusAlert[]
  readonly alert_count: number
  readonly replications: readonly StatusReplication[]
  readonly jobs: StatusJobs
  readonly placement: StatusPlacement
  readonly workers: readonly StatusWorker[]
  readonly running: readonly StatusRun[]
  /** In the order in which they will be taken: the first ones, and how many there are. */
  readonly waiting: readonly StatusWaiting[]
  readonly waiting_count: number
  /** Those that have ended, newest first. */
  readonly runs: readonly StatusRun[]
}

export interface StatusReplication {
  readonly job_id: number
  readonly type: string
  readonly source: string
  readonly destination: string
  readonly status: string
  /** Null: of no site; the empty text: the default site. */
  readonly site: string | null
  readonly level: StatusLevel
  /** Beside the level: why it is not OK, or what the last run did. */
  readonly note: string
  readonly columns: readonly string[] | null
  readonly condition: string | null
  readonly last_run: { readonly id: string; readonly status: string; readonly finished_at: string } | null
  readonly rows: number | null
  readonly bytes: number | null
  /** By how much the copy is behind its source. */
  readonly lag_seconds: number | null
  /** From where on it is late; null for a copy that nothing refreshes by itself and that has no target. */
  readonly late_after_seconds: number | null
  readonly late: boolean
  /** The source had nothing new at the last look; how old that is, `lag_seconds` says. */
  readonly idle: boolean
  /** How far an incremental copy goes. */
  readonly position: string | null
  /** In words; null for none. */
  readonly schedule: string | null
  readonly next_start: string | null
}

/** Something that somebody should look at, for as long as it lasts. */
export interface StatusAlert {
  readonly id: string
  readonly level: 'WARNING' | 'CRITICAL'
  /** FAILED_RUN, MISSING, BLOCKED, RUNNING, or a code of placement. */
  readonly status: string
  readonly object: string
  readonly text: string
  readonly since: string
  readonly acknowledged_at: string | null
  readonly acknowledged_by: string | null
  /** Of whoever acknowledged it. */
  readonly note: string | null
  /** Null: nobody silenced it, or no longer. */
  readonly silenced_until: string | null
}

/** Jobs that are no replications. Where there are too many, the first ones are here, and how many there are. */
export interface StatusJobs {
  readonly level: StatusLevel
  /** One sentence that answers: does every job run well? */
  readonly answer: string
  /** Worst first, then by number. */
  readonly jobs: readonly StatusJob[]
  readonly count: number
}

export interface StatusJob {
  readonly job_id: number
  /** Its name, else what it calls, with its number: `nightly [1001]`. */
  readonly label: string
  /** What it calls: `public.refresh_marts`, `2 statements`, `task sweep`. */
  readonly action: string
  readonly kind: 'procedure' | 'sql' | 'task'
  /** A registered database, or `tag:T`; null where a task has none. */
  readonly place: string | null
  readonly databases: number
  readonly site: string | null
  readonly status: string
  readonly level: StatusLevel
  /** Beside the level: why it is not OK, or what the last run did. */
  readonly note: string
  /** In words; null for none. */
  readonly schedule: string | null
  /** What it starts after; `awaited`: that has not ended since its last run. */
  readonly after: readonly { readonly job: string; readonly awaited: boolean }[]
  readonly next_start: string | null
  readonly running: number
  readonly waiting: number
  /** Where it runs in several databases, the one that fared worst. */
  readonly last_run: {
    readonly id: string
    readonly status: string
    readonly finished_at: string
    readonly seconds: number | null
  } | null
  /** In a row. */
  readonly failures: number
  readonly paused_by: string | null
  readonly paused_at: string | null
  readonly pause_note: string | null
}

/** Which host may run which site's work. Where there are too many, the first ones are here, and how many there are. */
export interface StatusPlacement {
  readonly level: StatusLevel
  /** One sentence that answers: has every site a host? */
  readonly answer: string
  /** Sites that no host may run, and those with one host left; worst first. */
  readonly alerts: readonly { readonly level: StatusLevel; readonly site: string; readonly text: string }[]
  readonly alert_count: number
  /** By name. */
  readonly hosts: readonly StatusHost[]
  readonly host_count: number
  /** Worst first, then by name. */
  readonly sites: readonly StatusSite[]
  /** Of those that have a name. */
  readonly site_count: number
}

export interface StatusHost {
  readonly host: string
  /** It takes work: a worker of it is alive, and it is not drained. */
  readonly active: boolean
  readonly drained: boolean
  readonly drained_at: string | null
  readonly drained_by: string | null
  /** Those that are alive. */
  readonly workers: number
  readonly running: number
  /** Most runs at once; null: no worker is alive, and nothing was said. */
  readonly slots: number | null
  /** Null: not in the last week. */
  readonly last_seen: string | null
}

export interface StatusSite {
  /** Null: work of no site; the empty text: the default site. */
  readonly site: string | null
  readonly stranded: boolean
  readonly at_risk: boolean
  /** In the order of all hosts. */
  readonly hosts: readonly {
    readonly host: string
    readonly binding: 'prefer' | 'allow' | 'forbid' | 'none'
    readonly may_run: boolean
    /** Why, as `binding explain` has it. */
    readonly code: string
    readonly running: number
  }[]
}

export interface StatusWorker {
  readonly id: string
  readonly name: string
  readonly host: string
  readonly slots: number
  readonly running: number
  readonly started_at: string
  readonly last_beat: string
  /** `missing`: its session is gone, and it may come back for a moment. `lost`: given up, and what it ran went on elsewhere. */
  readonly state: 'working' | 'missing' | 'lost'
}

export interface StatusRun {
  readonly id: string
  readonly job_id: number
  readonly operation: string
  readonly object: string
  readonly status: string
  readonly reason: string | null
  readonly message: string | null
  /** Null: of no site; the empty text: the default site. */
  readonly site: string | null
  readonly worker: string | null
  readonly host: string | null
  /** The rule's code by which its host got it; null where a command ran it itself. */
  readonly placement: string | null
  /** Above 1: an earlier one was lost or given back. */
  readonly attempt: number
  readonly started_at: string | null
  readonly finished_at: string | null
  readonly seconds: number
  /** Of the load so far, while it runs. */
  readonly rows: number
  readonly bytes: number
  readonly rows_per_second: number | null
  readonly bytes_per_second: number | null
  readonly steps: readonly { action: string; status: string; seconds: number; message: string | null }[]
}

/** A run that waits, as the page shows it. */
export interface StatusWaiting {
  readonly id: string
  readonly job_id: number
  readonly operation: string
  readonly object: string
  /** Since when it is due, or was asked for. */
  readonly since: string
  readonly site: string | null
  /** Why it does not run yet, as a code and in words. */
  readonly code: string | null
  readonly why: string
}
