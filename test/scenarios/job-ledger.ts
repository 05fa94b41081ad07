import { expect } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'

/**
 * What jobs do in a target, written down there by themselves, outside of any rollback:
 * - `public.marks` says when it begins and when it ends, with its attempt, and which sessions of the same job work beside it;
 *   `{"seconds": s}` in between, `{"fail": p}` of them fail behind the first mark.
 * - `public.beats` marks a beat every 100 ms, for `{"seconds": s}`.
 * - `public.counts` is a function: one effect, once where the database has our schema.
 */
const actions = `
  create table public.mark (n bigint generated always as identity, job_id int not null, run_id bigint not null, attempt int not null,
    what text not null, at timestamptz not null default clock_timestamp(), pid int not null default pg_backend_pid(), others int);
  create index on public.mark (job_id, n);
  create table public.effect (job_id int not null, run_id bigint not null, attempt int not null);
  create procedure public.mark(job_id int, said text) language sql as $$
    insert into public.mark (job_id, run_id, attempt, what, others)
    select job_id, current_setting('yardmaster.run_id')::bigint, current_setting('yardmaster.attempt')::int, said,
      case said when 'start' then (select count(*) from pg_stat_activity a where a.datname = current_database() and a.state <> 'idle'
        and a.application_name like '%[' || job_id || ']' and a.pid <> pg_backend_pid()) end $$;
  create procedure public.marks(job_id int, config jsonb) language plpgsql as $$ begin
    call public.mark(job_id, 'start'); commit;
    if random() < coalesce((config ->> 'fail')::float8, 0) then raise 'as the dice fell'; end if;
    perform pg_sleep(coalesce((config ->> 'seconds')::float8, 0));
    call public.mark(job_id, 'end'); end $$;
  create procedure public.beats(job_id int, config jsonb) language plpgsql as $$ begin
    call public.mark(job_id, 'start'); commit;
    for beat in 1 .. 10 * (config ->> 'seconds')::int loop
      perform pg_sleep(0.1); call public.mark(job_id, 'beat'); commit;
    end loop;
    call public.mark(job_id, 'end'); end $$;
  create function public.counts(job_id int, config jsonb) returns void language plpgsql as $$ begin
    perform pg_sleep(coalesce((config ->> 'seconds')::float8, 0));
    insert into public.effect values (job_id, current_setting('yardmaster.run_id')::bigint, current_setting('yardmaster.attempt')::int); end $$`

export interface Mark {
  readonly run_id: string
  readonly attempt: number
  readonly what: string
  readonly at: Date
  readonly others: number | null
}

/** The jobs' own record, in one target. */
export class JobLedger {
  readonly database: TestDatabase

  private constructor(database: TestDatabase) {
    this.database = database
  }

  /** `once`: the database has our schema. */
  static async keep(database: TestDatabase, once: boolean): Promise<JobLedger> {
    await database.query(actions)
    if (once) await database.query('create schema yardmaster')
    return new JobLedger(database)
  }

  marks(job: number): Promise<Mark[]> {
    return this.database.query(
      'select run_id, attempt, what, at, others from public.mark where job_id = $1 order by n',
      [job],
    )
  }

  async effects(run?: string): Promise<number> {
    const [row] = await this.database.query<{ effects: number }>(
      'select count(*)::int as effects from public.effect where $1::bigint is null or run_id = $1',
      [run ?? null],
    )
    return row?.effects ?? 0
  }

  /** Resolves when a job has written so many marks of a kind. */
  async comesTo(job: number, what: string, count: number, timeout = 20_000): Promise<void> {
    const there = async () => (await this.marks(job)).filter((mark) => mark.what === what).length
    await expect.poll(there, { timeout, interval: 20 }).toBeGreaterThanOrEqual(count)
  }

  /**
   * No attempt began while another one of its job had not ended, or its session still worked. `allowed`: jobs whose runs may
   * overlap; of these no two attempts of one run.
   */
  async neverTwice(allowed: readonly number[] = []): Promise<void> {
    const overlaps = await this.database.query(
      `with spans as (
         select job_id, run_id, attempt, min(at) as since, max(at) as until,
           max(others) filter (where not job_id = any ($1)) as others
         from public.mark group by job_id, run_id, attempt)
       select s.*, o.run_id as beside, o.attempt as beside_attempt from spans s
       left join lateral (select * from spans o where o.job_id = s.job_id and (o.run_id, o.attempt) <> (s.run_id, s.attempt)
         and (o.run_id = s.run_id or not s.job_id = any ($1)) and o.since <= s.since and o.until > s.since limit 1) o on true
       where o.run_id is not null or s.others > 0`,
      [allowed],
    )
    expect(overlaps).toEqual([])
  }
}
