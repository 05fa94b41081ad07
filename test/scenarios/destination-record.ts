import { expect } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'

interface Entry {
  replication: string
  token: string
  read_number: string
  pid: number
}

/**
 * The destination's own record of who changed what, when: a trigger writes down every change of a position that was
 * committed, under that position's lock. It believes no process and no control database.
 */
export class DestinationRecord {
  readonly #database: Pick<TestDatabase, 'query'>

  constructor(database: Pick<TestDatabase, 'query'>) {
    this.#database = database
  }

  /** Once there is a table of positions. */
  async begin(): Promise<void> {
    await this.#database.query(`
      create table public.position_record (entry bigint generated always as identity, replication uuid, token uuid,
        read_number bigint, pid int, at timestamptz default clock_timestamp())`)
    await this.#database.query(`
      create function public.record_position() returns trigger language plpgsql security definer
      set search_path = pg_catalog, pg_temp as $$
      begin
        insert into public.position_record (replication, token, read_number, pid)
        values (new.replication_id, new.token, new.read_number, pg_backend_pid());
        return null;
      end $$`)
    await this.#database.query(`
      create trigger record_position after update on yardmaster.position for each row execute function public.record_position()`)
  }

  entries(): Promise<Entry[]> {
    return this.#database.query<Entry>(
      'select replication, token, read_number, pid from public.position_record order by entry',
    )
  }

  /**
   * No attempt wrote behind the one that took its place, each effect has one number, none is left out, and no attempt worked
   * by two sessions that moved the position.
   */
  async isInOrder(): Promise<void> {
    const wrong: string[] = []
    const last = new Map<string, Entry>()
    const replaced = new Set<string>()
    for (const entry of await this.entries()) {
      const before = last.get(entry.replication)
      last.set(entry.replication, entry)
      if (replaced.has(entry.token)) wrong.push(`${entry.token} wrote though another attempt had taken its place`)
      if (!before) continue
      if (before.token !== entry.token) replaced.add(before.token)
      const step = BigInt(entry.read_number) - BigInt(before.read_number)
      if (step < 0n || step > 1n) wrong.push(`read number ${before.read_number} became ${entry.read_number}`)
      if (step === 1n && before.token !== entry.token)
        wrong.push(`${entry.token} took effect without a claim of its own`)
    }
    expect(wrong).toEqual([])
    expect(last.size).toBeGreaterThan(0)
  }

  /** How many effects there were. */
  async effects(): Promise<number> {
    const [row] = await this.#database.query<{ n: number }>(
      'select coalesce(sum(read_number), 0)::int as n from yardmaster.position',
    )
    return row?.n ?? 0
  }
}
