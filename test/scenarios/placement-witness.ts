import type { TestDatabase } from '../support/databases.ts'
import type { PlacedAttempt } from './placement-chronicle.ts'

/**
 * Has the control database note, in each attempt, what its claim saw. The trigger is STABLE, so that it looks by the claim's own
 * snapshot: what is committed a moment later is not held against it.
 */
export class PlacementWitness {
  readonly #database: Pick<TestDatabase, 'query'>

  private constructor(database: Pick<TestDatabase, 'query'>) {
    this.#database = database
  }

  static async begin(database: Pick<TestDatabase, 'query'>): Promise<PlacementWitness> {
    await database.query('alter table yardmaster.attempt add column witnessed jsonb')
    await database.query(`
      create function public.witness() returns trigger language plpgsql stable as $$
      begin
        new.witnessed := (
          select jsonb_build_object('claimed_at', extract(epoch from now()) * 1000,
            'bindings', (select coalesce(jsonb_object_agg(b.host, b.binding), '{}') from yardmaster.binding b where b.site = r.site),
            'active', (select coalesce(jsonb_agg(a.host), '[]') from yardmaster.active_hosts a),
            'drained', (select coalesce(jsonb_agg(h.name), '[]') from yardmaster.host h where h.drained_at is not null),
            'fallback_ms', (select extract(epoch from case when s.inherits_fallback then p.fallback_after else s.fallback_after end) * 1000
              from yardmaster.placement p, yardmaster.site s where s.name = r.site),
            'waited_ms', extract(epoch from clock_timestamp() - r.slot) * 1000)
          from yardmaster.run r where r.id = new.run_id);
        return new;
      end $$`)
    await database.query(
      'create trigger witness before insert on yardmaster.attempt for each row execute function public.witness()',
    )
    return new PlacementWitness(database)
  }

  /** All attempts by which workers carried out runs since it began. */
  attempts(): Promise<PlacedAttempt[]> {
    return this.#database.query<PlacedAttempt>(
      `select a.id, r.site, a.host, a.placement, (a.witnessed ->> 'claimed_at')::float8 as claimed_at,
         extract(epoch from a.started_at)::float8 * 1000 as began_at, a.witnessed
       from yardmaster.attempt a join yardmaster.run r on r.id = a.run_id where r.queued and a.witnessed is not null order by a.id`,
    )
  }
}
