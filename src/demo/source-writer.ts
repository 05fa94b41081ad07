import { setTimeout as delay } from 'node:timers/promises'
import type { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import type { Session } from '../postgres/connect.ts'
import { identifier, type Sql, sql } from '../postgres/sql.ts'
import { isConnectionLoss } from '../postgres/sqlstate.ts'

/** Every so many transactions comes one of the rare kinds. */
const rareEvery = 25
/** Transactions from one that stays open for long to the next. */
const longEvery = 40
/** How long such a one stays open, in pauses of the writer. */
const longFor = 8
/** Columns that the writer adds at most. */
const mostColumns = 5

/** What an application does all day, each a transaction. Choices are the server's random(). */
export const ordinaryChanges: readonly Sql[] = [
  sql`insert into travel.flights (departs, delay, distance)
    select random() * 23.9, (random() * random() * 300)::int - 15, 80 + (random() * 2500)::int
    from generate_series(1, 1 + (random() * 19)::int)`,
  sql`update travel.flights set delay = delay + 10 where id in (
    select f.id from travel.flights f where f.id >= (select (random() * max(id))::bigint from travel.flights)
    order by f.id limit 10)`,
  sql`update travel.airports set labels = labels operator(public.||)
      public.hstore('visits', (1 + coalesce((labels operator(public.->) 'visits')::int, 0))::text),
    changed_at = clock_timestamp() where code in (select code from travel.airports order by random() limit 5)`,
  sql`insert into nature.earthquakes (id, kind, magnitude, happened_at, place, epicentre, depth, sources)
    select 'ym' || gen_random_uuid(), 'earthquake', round((random() * 6)::numeric, 1), clock_timestamp(), place, epicentre,
      depth, array['ym'] from nature.earthquakes order by random() limit 2`,
  sql`update travel.stocks set price = round((price * (0.98 + random() * 0.04))::numeric, 2)
    where symbol in (select symbol from travel.stocks order by random() limit 1)`,
  sql`insert into travel.zip_codes (zip_code, place, city, state, county)
    select 'X' || to_char((random() * 9999)::int, 'FM0000'), place, city, state, county
    from travel.zip_codes order by number desc limit 1 on conflict do nothing`,
  sql`update "Odd ""Names"".Ünïcode"."Straße ""6"".東京 🚂"
    set "with.dot" = left("with.dot", 40) || '·', "back\\slash" = jsonb_build_object('now', clock_timestamp())
    where "Number" = 1 + (random() * 2)::int`,
  sql`delete from travel.flights where id in (
    select f.id from travel.flights f where f.id >= (select (random() * max(id))::bigint from travel.flights)
    order by f.id limit 3)`,
  sql`update nature.species set habitat = random()
    where county in (select county from nature.species order by random() limit 1)`,
  sql`delete from travel.zip_codes where zip_code like 'X%' and random() < 0.2`,
  sql`update "Odd ""Names"".Ünïcode"."Ordres d'été" set "montant €" = "montant €" * -1 where "Nº" % 50 = (random() * 49)::int`,
  sql`delete from nature.earthquakes where id in (select id from nature.earthquakes where id like 'ym%' order by random() limit 1)`,
  sql`with placed as (insert into shop.orders (customer) select 'customer ' || (random() * 400)::int returning number),
    lines as (insert into shop.order_lines select p.number, l, s.article, (random() * 100)::numeric(10,2)
      from placed p, generate_series(1, 1 + (random() * 4)::int) l
      cross join lateral (select article from shop.stock where l > 0 order by random() limit 1) s)
    insert into shop.events (what) select 'order ' || number || ' placed' from placed`,
  sql`with paid as (update shop.orders set status = 'paid', changed_at = now() where status = 'new' returning number)
    insert into shop.payments ("order", amount) select p.number, t.total from paid p join shop.order_totals t using (number)`,
  sql`update shop.stock set pieces = pieces - 1, version = nextval('shop.stock_version_seq')
    where article in (select article from shop.stock order by random() limit 2)`,
  sql`with changed as (update shop.orders set status = 'sent', changed_at = clock_timestamp() where number in (
      select number from shop.orders where status = 'paid' order by random() limit 3) returning number)
    insert into shop.events (what) select 'order ' || number || ' sent' from changed`,
]

/** What a transaction does that is then open for long: its rows have old times and old numbers when they are seen at last. */
const longChanges: readonly Sql[] = [
  sql`insert into shop.payments ("order", amount) select number, 1 from shop.orders order by number desc limit 2`,
  sql`insert into shop.orders (customer, status) values ('a slow customer', 'slow')`,
  sql`insert into shop.events (what) select 'slow ' || n from generate_series(1, 3) n`,
  sql`insert into shop.stock (article, pieces) select 'slow ' || gen_random_uuid(), 1`,
]

/** Empties a table and fills it again, in one transaction: nothing of it shows in the counters of written rows but a TRUNCATE. */
export async function reloadStocks(session: Session): Promise<void> {
  await session.script(`
    begin;
    create temporary table kept on commit drop as select * from travel.stocks;
    truncate travel.stocks;
    insert into travel.stocks select * from pg_temp.kept;
    update travel.stocks set price = price + 0.01;
    commit`)
}

/** Adds the n-th column to a table that is copied. */
export async function addColumn(session: Session, number: number): Promise<void> {
  const name = identifier(`Note ${number}`)
  await session.query(sql`alter table travel.stocks add column if not exists ${name} text default 'none yet'`)
  await session.query(sql`update travel.stocks set ${name} = 'seen' where symbol like 'A%'`)
}

/**
 * Goes on changing the source, at a modest rate, until it is stopped. A statement that the source refuses (somebody plays
 * with its tables) is left out; a lost connection ends it.
 */
export class SourceWriter implements Service {
  readonly #connect: () => Promise<Session>
  readonly #pause: number
  readonly #stop = new AbortController()
  #session: Session | undefined
  #longSession: Session | undefined
  #loop: Promise<void> | undefined
  #long: Promise<void> | undefined
  #turn = 0
  /** Transactions that have committed. */
  changes = 0
  /** What the source refused last. */
  refusal: Failure | undefined

  /** `pause`: milliseconds between two transactions. */
  constructor(connect: () => Promise<Session>, pause: number) {
    this.#connect = connect
    this.#pause = pause
  }

  async start(): Promise<void> {
    this.#session = await this.#connect()
    this.#longSession = await this.#connect()
    this.#loop = this.#write(this.#session)
  }

  /** Ends after the transactions that run, and closes the sessions. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#loop
    await this.#long
    await Promise.all([this.#session?.end(), this.#longSession?.end()])
  }

  get isStarted(): boolean {
    return this.#loop !== undefined
  }

  /** True once it writes no more, for whatever reason. */
  get isOver(): boolean {
    return this.#stop.signal.aborted
  }

  /** Backend pids of the writer's sessions. */
  get pids(): number[] {
    return [this.#session, this.#longSession].flatMap((session) => (session === undefined ? [] : [session.pid]))
  }

  /** Resolves when so many transactions have committed, or it is over. */
  async reached(changes: number, signal: AbortSignal): Promise<void> {
    while (this.changes < changes && !this.isOver) await delay(20, undefined, { signal })
  }

  async #write(session: Session): Promise<void> {
    for (; !this.isOver; this.#turn++) {
      try {
        if (this.#turn % longEvery === 0) this.#beginLong()
        await this.#change(session)
        this.changes += 1
      } catch (error) {
        this.refusal = session.failure(error)
        if (isConnectionLoss(this.refusal)) this.#stop.abort()
        else await session.script('rollback').catch(() => this.#stop.abort())
      }
      await delay(this.#pause, undefined, { signal: this.#stop.signal }).catch(() => undefined)
    }
  }

  /** A second session's transaction stays open while the first goes on. */
  #beginLong(): void {
    const session = this.#longSession
    if (session === undefined || this.#long !== undefined) return
    this.#long = this.#writeLong(session)
      .catch((error: unknown) => {
        this.refusal = session.failure(error)
        return session.script('rollback').catch(() => undefined)
      })
      .finally(() => {
        this.#long = undefined
      })
  }

  async #writeLong(session: Session): Promise<void> {
    await session.script('begin')
    for (const change of longChanges) await session.query(change)
    await delay(longFor * this.#pause, undefined, { signal: this.#stop.signal }).catch(() => undefined)
    await session.script('commit')
  }

  async #change(session: Session): Promise<void> {
    const rare = Math.floor(this.#turn / rareEvery)
    const statement = ordinaryChanges[this.#turn % ordinaryChanges.length]
    if (this.#turn % rareEvery !== rareEvery - 1) await session.query(statement ?? sql`select`)
    else if (rare % 2 === 1 && rare < 2 * mostColumns) await addColumn(session, Math.ceil(rare / 2))
    else await reloadStocks(session)
  }
}
