import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { type Sql, sql } from '../postgres/sql.ts'
import { endProcess, instantFormat, lookAt, type ServerProcess } from './server-process.ts'

/** A session of an earlier attempt whose end nobody saw. */
export interface EarlierSession extends ServerProcess {
  /** The control database has given that attempt up: what it left is ended. */
  readonly attemptIsOver: boolean
  /** For people: `attempt 1 of run 4711 on worker a`. */
  readonly who: string
}

/** What is fenced. */
export interface Fenced {
  readonly controlId: string
  readonly jobId: number
  readonly runId: string
  /** Attempts of different runs may overlap; then each run has a lock of its own, and shares the job's. */
  readonly overlaps: boolean
}

/** Milliseconds between the request to cancel what an earlier attempt runs and its end by force. */
export const cancelGrace = 3000
/** Milliseconds for which a lock is waited for that a session holds which is about to end. */
const lockPatience = 1000

interface Holder extends ServerProcess {
  readonly name: string | null
  readonly role: string | null
}

/**
 * The fence of a job in its target: a session lock on the very session that works, so that a new attempt starts only when
 * the session of the one before is gone, whatever the control database believes.
 */
export class Fence {
  readonly #session: Session
  readonly #fenced: Fenced
  readonly #own: ServerProcess
  readonly #jobKey: string
  readonly #runKey: string

  constructor(session: Session, own: ServerProcess, fenced: Fenced) {
    this.#session = session
    this.#fenced = fenced
    this.#own = own
    this.#jobKey = lockKey(fenced.controlId, String(fenced.jobId))
    this.#runKey = lockKey(fenced.controlId, String(fenced.jobId), fenced.runId)
  }

  /**
   * Ends what earlier attempts left, then takes the lock. Throws `job_locked` where somebody else holds it, and what
   * `endProcess` throws.
   */
  async take(earlier: readonly EarlierSession[], signal: AbortSignal): Promise<void> {
    // Also those that hold no lock any more: the procedure may have called pg_advisory_unlock_all.
    for (const one of earlier) if (one.attemptIsOver && (await this.#mayWork(one))) await this.#endSession(one)
    const deadline = performance.now() + lockPatience
    for (;;) {
      if (signal.aborted)
        throw new Failure('cancelled', { message: 'Cancelled before it began.', object: this.#object })
      if (await this.#tryLock()) return
      for (const holder of await this.#holders()) {
        const known = earlier.find((one) => isSame(one, holder))
        if (known?.attemptIsOver) await this.#endSession(known)
        else if (known || performance.now() > deadline) throw this.#locked(holder, known?.who)
      }
      await delay(20)
    }
  }

  /** Whether the lock is still ours. For sessions whose search_path is empty. */
  isHeld(): Sql {
    const { high, low } = halves(this.#fenced.overlaps ? this.#runKey : this.#jobKey)
    return sql`select exists (select from pg_locks l where l.locktype = 'advisory' and l.granted and l.pid = pg_backend_pid()
      and l.classid = ${high}::oid and l.objid = ${low}::oid and l.objsubid = 1) as held`
  }

  get #object(): string {
    return this.#session.object
  }

  /**
   * A connection that went back to a pool has another name by now: it works for somebody else, or for nobody. What a
   * procedure called itself is no such name.
   */
  async #mayWork(process: ServerProcess): Promise<boolean> {
    if (isSame(process, this.#own)) return false
    const sight = await lookAt(this.#session, process)
    if (!sight) return false
    const { application_name: name } = sight
    // By the id at its end: older servers print ? for letters that are not ASCII, and long names are cut.
    return name.endsWith(` [${this.#fenced.jobId}]`) || !/^yardmaster | \[\d+\]$/.test(name)
  }

  async #endSession(process: ServerProcess): Promise<void> {
    if (!isSame(process, this.#own)) await endProcess(this.#session, process, cancelGrace)
  }

  async #tryLock(): Promise<boolean> {
    const lock = this.#fenced.overlaps
      ? sql`case when pg_try_advisory_lock_shared(${this.#jobKey}::bigint) then pg_try_advisory_lock(${this.#runKey}::bigint) else false end`
      : sql`pg_try_advisory_lock(${this.#jobKey}::bigint)`
    return (await this.#session.one<{ ours: boolean }>(sql`select ${lock} as ours`)).ours
  }

  /** Other sessions that hold what we need. */
  async #holders(): Promise<Holder[]> {
    const keys = this.#fenced.overlaps ? [this.#jobKey, this.#runKey] : [this.#jobKey]
    const [high, low] = [keys.map((key) => halves(key).high), keys.map((key) => halves(key).low)]
    return this.#session.query<Holder>(sql`
      select l.pid, to_char(a.backend_start at time zone 'UTC', ${instantFormat}) as "backendStart", a.application_name as name,
        a.usename as role
      from pg_locks l left join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.pid <> pg_backend_pid()
        and l.database = (select d.oid from pg_database d where d.datname = current_database())
        and (l.classid, l.objid) in (select * from unnest(${high}::oid[], ${low}::oid[]))
        and (l.mode = 'ExclusiveLock' or ${!this.#fenced.overlaps})`)
  }

  #locked({ pid, name, role, backendStart }: Holder, who: string | undefined): Failure {
    const holder = [name ? `'${printable(name)}'` : '', role ? `role ${printable(role)}` : ''].filter((part) => part)
    const since = backendStart ? `, connected since ${backendStart.replace(/\.\d+Z$/, 'Z')}` : ''
    return new Failure('job_locked', {
      message: `Job ${this.#fenced.jobId} is locked in ${this.#object} by process ${pid} (${holder.join(', ')}${since}), ${who ? `${who}, which still works` : 'which no attempt here is known to have left'}.`,
      object: this.#object,
      remedy: `Wait for it; where it should not be there, as its role or an administrator of ${this.#object}: SELECT pg_terminate_backend(${pid});`,
      retryable: true,
    })
  }
}

function isSame(one: ServerProcess, other: ServerProcess): boolean {
  return one.pid === other.pid && instant(one.backendStart) === instant(other.backendStart)
}

/** Whoever stored it may have printed the same moment otherwise: `+00:00` for `Z`, and no zeros at the end. */
function instant(text: string | null): string {
  const match = /^(\S{10})[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00(?::?00)?)$/.exec(text ?? '')
  if (!match) return text ?? ''
  const [, day, time, fraction = ''] = match
  return `${day} ${time}.${fraction.padEnd(6, '0')}`
}

/** 64 bits of a hash: of a thousand million jobs, two share a lock once in forty databases. Signed, as PostgreSQL has them. */
function lockKey(...parts: string[]): string {
  const hash = createHash('sha256')
    .update(JSON.stringify(['yardmaster job', ...parts]))
    .digest()
  return hash.readBigInt64BE(0).toString()
}

/** As `pg_locks` shows a key. */
function halves(key: string): { high: string; low: string } {
  const bits = BigInt.asUintN(64, BigInt(key))
  return { high: (bits >> 32n).toString(), low: (bits & 0xffff_ffffn).toString() }
}
