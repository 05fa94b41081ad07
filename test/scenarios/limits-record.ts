import { expect } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'

/** SQL over a run `r`, its job `j` and its attempt `a`: whether the run is one of those that share a limit. */
export type Sharing = string

interface Crowd {
  readonly attempt: string
  readonly at: string
  readonly beside: number
}

/**
 * How many were under way at once, by the attempts' own times alone: for each attempt, those that had begun and not ended when it
 * began, itself among them. It believes no count of the program's.
 */
export class LimitsRecord {
  readonly #database: Pick<TestDatabase, 'query'>
  readonly #behind: string

  private constructor(database: Pick<TestDatabase, 'query'>, behind: string) {
    this.#database = database
    this.#behind = behind
  }

  /** Of what begins from now on. */
  static async begin(database: Pick<TestDatabase, 'query'>): Promise<LimitsRecord> {
    const [row] = await database.query<{ id: string }>('select coalesce(max(id), 0) as id from yardmaster.attempt')
    return new LimitsRecord(database, row?.id ?? '0')
  }

  /** Attempts at whose beginning more than `most` of these were under way. */
  async crowds(sharing: Sharing, most: number): Promise<Crowd[]> {
    return this.#database.query<Crowd>(
      `with shared as (
         select a.id, a.started_at, coalesce(a.finished_at, 'infinity') as finished_at
         from yardmaster.attempt a join yardmaster.run r on r.id = a.run_id join yardmaster.job j on j.id = r.job_id
         where a.id > $1 and ${sharing})
       select s.id as attempt, s.started_at::text as at, count(*)::int as beside
       from shared s join shared o on o.started_at <= s.started_at and o.finished_at > s.started_at
       group by s.id, s.started_at having count(*) > $2 order by s.started_at`,
      [this.#behind, most],
    )
  }

  /** Never more than `most` at once, and so many at least once: else there was nothing to hold back. */
  async isFullAndNoMore(most: number, sharing: Sharing): Promise<void> {
    expect(await this.crowds(sharing, most)).toEqual([])
    expect(await this.crowds(sharing, most - 1)).not.toEqual([])
  }
}
