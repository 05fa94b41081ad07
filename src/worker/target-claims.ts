import type { Control } from '../control/control.ts'
import type { EarlierSession } from '../jobs/fence.ts'
import { sql } from '../postgres/sql.ts'
import { controlPatience } from './run-outcome.ts'

/** What the control database says of a session that is to work for an attempt. */
interface Claimed {
  /** False: the attempt is over, and nothing may be begun. */
  readonly mine: boolean
  /** Sessions that earlier attempts of the same job may have left in the target. */
  readonly earlier: readonly EarlierSession[]
}

interface Pending {
  readonly claim: { readonly token: string; readonly pid: number; readonly session_start: string }
  readonly settle: PromiseWithResolvers<Claimed>
}

const known = new WeakMap<Control, TargetClaims>()

/** Those of this process: runs that begin in the same moment are told together. */
export function targetClaims(control: Control): TargetClaims {
  const claims = known.get(control) ?? new TargetClaims(control)
  known.set(control, claims)
  return claims
}

/** Tells the control database which session in a target works for which attempt, before anything is begun there. */
class TargetClaims {
  readonly #control: Control
  #pending: Pending[] = []
  #sending = false

  constructor(control: Control) {
    this.#control = control
  }

  /** A control database that is away is waited for. */
  claim(token: string, pid: number, backendStart: string): Promise<Claimed> {
    const settle = Promise.withResolvers<Claimed>()
    this.#pending.push({ claim: { token, pid, session_start: backendStart }, settle })
    if (!this.#sending) void this.#send()
    return settle.promise
  }

  async #send(): Promise<void> {
    this.#sending = true
    // What comes in the same moment goes together.
    await new Promise((resolve) => setImmediate(resolve))
    while (this.#pending.length > 0) {
      const batch = this.#pending
      this.#pending = []
      await this.#sendBatch(batch).catch((error: unknown) => {
        for (const { settle } of batch) settle.reject(error)
      })
    }
    this.#sending = false
  }

  async #sendBatch(batch: readonly Pending[]): Promise<void> {
    const rows = await this.#control.perform(
      (session) =>
        session.query<{ token: string; mine: boolean; earlier: LeftSession[] | null }>(
          sql`select token, mine, earlier from yardmaster.claim_sessions(${JSON.stringify(batch.map(({ claim }) => claim))}::jsonb)`,
        ),
      controlPatience,
    )
    const byToken = new Map(rows.map((row) => [row.token, row]))
    for (const { claim, settle } of batch) {
      const row = byToken.get(claim.token)
      const earlier = (row?.earlier ?? []).map(({ pid, backend_start: backendStart, who }) => ({
        ...{ pid, backendStart, who, attemptIsOver: true },
      }))
      settle.resolve({ mine: row?.mine ?? false, earlier })
    }
  }
}

interface LeftSession {
  readonly pid: number
  readonly backend_start: string
  readonly who: string
}
