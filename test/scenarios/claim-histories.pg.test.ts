import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Claimant, ClaimDesk, type Claimed, claim, finish } from './claim-desk.ts'

/** What happens at once, each on a session of its own. */
type Step =
  | { kind: 'claim'; worker: number; slots: number }
  | { kind: 'finish'; worker: number; pick: number; status: 'OK' | 'CRITICAL' | 'WAITING' }
  | { kind: 'queue' | 'due' | 'pause' | 'resume'; job: number }
  | { kind: 'lose' | 'sweep' | 'beat'; worker: number }

const [workers, jobs] = [3, 4]
const worker = fc.nat(workers - 1)
const job = fc.nat(jobs - 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('claim' as const), worker, slots: fc.integer({ min: 1, max: 3 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('finish' as const),
      worker,
      pick: fc.nat(9),
      status: fc.constantFrom('OK' as const, 'OK' as const, 'CRITICAL' as const, 'WAITING' as const),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('queue' as const, 'due' as const), job }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('pause' as const, 'resume' as const), job }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('lose' as const, 'sweep' as const, 'beat' as const), worker }),
  },
)

/** Workers, jobs and what each worker was given in one history. */
class History {
  readonly #desk: ClaimDesk
  readonly #workers: Claimant[]
  readonly #jobs: number[]
  readonly #given = new Map<string, Claimed[]>()
  readonly #lanes = new Map<number | 'jobs', Promise<void>>()
  /** Tokens whose end was taken: true is said once for each, of all attempts of a run of one. */
  readonly ended = new Map<string, string>()

  constructor(desk: ClaimDesk, workers: Claimant[], jobs: number[]) {
    this.#desk = desk
    this.#workers = workers
    this.#jobs = jobs
  }

  /** Each worker's steps go by its own session, one after the other; the others' beside them. */
  async take(step: Step): Promise<void> {
    const lane = 'job' in step ? 'jobs' : step.worker
    const before = this.#lanes.get(lane) ?? Promise.resolve()
    const now = before.then(() => this.#take(step))
    this.#lanes.set(lane, now)
    return now
  }

  async #take(step: Step): Promise<void> {
    if ('job' in step) return this.#takeJob(step.kind, this.#jobs[step.job] ?? 0)
    const worker = this.#workers[step.worker] as Claimant
    const given = this.#given.get(worker.id) ?? []
    this.#given.set(worker.id, given)
    if (step.kind === 'claim') given.push(...(await claim(worker, step.slots)))
    else if (step.kind === 'finish')
      await this.#finish(worker, given.at(-1 - (step.pick % Math.max(1, given.length))), step.status)
    else if (step.kind === 'lose') await this.#lose(worker)
    else if (step.kind === 'sweep') await worker.client.query('select yardmaster.release_lost_workers()')
    else await worker.client.query('select yardmaster.beat_worker($1)', [worker.id])
  }

  async #takeJob(kind: 'queue' | 'due' | 'pause' | 'resume', id: number): Promise<void> {
    const { database } = this.#desk
    if (kind === 'queue') await this.#desk.queue(id)
    else if (kind === 'due') {
      await database.query(
        `update yardmaster.job_state set next_start = clock_timestamp(), next_slot = clock_timestamp() where job_id = $1 and scheduled and next_start is null`,
        [id],
      )
    } else await database.query(`select yardmaster.${kind}_replication($1)`, [id])
  }

  async #finish(worker: Claimant, run: Claimed | undefined, status: string): Promise<void> {
    if (!run || this.ended.has(run.token) || !(await finish(worker, run.token, status))) return
    if (status === 'WAITING' || this.ended.has(run.token)) return
    expect([...this.ended.values()], 'a run has one end').not.toContain(run.run_id)
    this.ended.set(run.token, run.run_id)
  }

  /** As if its session had been missing for longer than a worker gets to come back. */
  async #lose({ id, client }: Claimant): Promise<void> {
    await client.query(
      `update yardmaster.worker set session_pid = 0, missing_since = clock_timestamp() - interval '1 minute' where id = $1 and ended_at is null`,
      [id],
    )
  }

  /** Whatever has happened: when the workers that live have ended what they have, everything that waits is done. */
  async settle(): Promise<void> {
    for (const job of this.#jobs) await this.#desk.database.query('select yardmaster.resume_replication($1)', [job])
    for (const { client, id } of this.#workers) await client.query('select yardmaster.beat_worker($1)', [id])
    for (let round = 0; round < 40; round += 1) {
      for (const worker of this.#workers) {
        await claim(worker, 3)
        const held = await worker.client.query('select token from yardmaster.held_runs($1)', [worker.id])
        for (const { token } of held.rows) await finish(worker, token)
      }
    }
    const open = await this.#desk.database.query(`select id from yardmaster.run where status in ('WAITING', 'RUNNING')`)
    expect(open).toEqual([])
  }
}

test('whatever happens at once to workers, runs and jobs: no job runs twice, no run has two ends, none is left', async () => {
  const desk = await ClaimDesk.open('claim histories')
  const given = [await desk.worker('a', 2), await desk.worker('b', 2), await desk.worker('c', 1)]
  const ids = await desk.jobs(jobs, 'h')
  const histories = fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { minLength: 4, maxLength: 20 })
  const once = async (moments: Step[][]) => {
    const history = new History(desk, given, ids)
    for (const moment of moments) {
      await Promise.all(moment.map((one) => history.take(one)))
      await desk.rulesHold()
    }
    await history.settle()
    await desk.rulesHold()
  }
  await fc.assert(fc.asyncProperty(histories, once), { numRuns: 40, endOnFailure: true })
})
