import { readFile } from 'node:fs/promises'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Datasets } from './datasets.ts'

const folder = new URL('../../data/demo/', import.meta.url)
const script = (name: string) => readFile(new URL(name, folder), 'utf8')

/** Makes the source's tables and fills them. */
export async function makeSource(session: Session, data: Datasets): Promise<void> {
  await session.script(await script('types.sql'))
  await session.script(await script('source.sql'))
  await session.script(await script('sizes.sql'))
  await fillTravel(session, data)
  await fillNature(session, data)
  await session.script('analyze')
}

/** Makes what the destination has before the first copy. */
export async function makeDestination(session: Session): Promise<void> {
  await session.script(await script('types.sql'))
  await session.script(await script('destination.sql'))
  await session.script(await script('sizes.sql'))
}

/** Makes what jobs call there; some of it reads the copies, which are there then. */
export async function makeProcedures(destination: Session): Promise<void> {
  await destination.script(await script('jobs.sql'))
}

async function fillTravel(session: Session, data: Datasets): Promise<void> {
  await session.query(sql`
    insert into travel.flights (departs, delay, distance)
    select f."time", f.delay, f.distance
    from jsonb_to_recordset(${data.flights}::jsonb) as f("time" numeric, delay int, distance int)`)
  await session.query(sql`
    insert into travel.airports (code, name, city, state, place, labels)
    select a.iata, a.name, a.city, a.state, row(a.latitude, a.longitude)::travel.place,
      public.hstore(array['country', 'on "islands"'], array[a.country, (a.state in ('HI', 'PR', 'VI'))::text])
    from jsonb_to_recordset(${data.airports}::jsonb)
      as a(iata text, name public.citext, city text, state text, country text, latitude float8, longitude float8)`)
  await session.query(sql`
    insert into travel.zip_codes (zip_code, place, city, state, county)
    select z.zip_code, point(z.longitude, z.latitude), z.city, z.state, z.county
    from jsonb_to_recordset(${data.zipCodes}::jsonb)
      as z(zip_code text, latitude float8, longitude float8, city public.citext, state text, county text)`)
  await session.query(sql`
    insert into travel.stocks (symbol, day, price)
    select s.symbol, s."date"::date, s.price
    from jsonb_to_recordset(${data.stocks}::jsonb) as s(symbol text, "date" text, price numeric)`)
}

async function fillNature(session: Session, data: Datasets): Promise<void> {
  await session.query(sql`
    insert into nature.earthquakes (id, kind, magnitude, happened_at, place, epicentre, depth, sources, facts)
    select q.id, (q.properties->>'type')::nature.event, (q.properties->>'mag')::numeric,
      to_timestamp((q.properties->>'time')::float8 / 1000), q.properties->>'place',
      row(q.geometry#>>'{coordinates,1}', q.geometry#>>'{coordinates,0}')::travel.place,
      nature.kilometres(0, greatest(0, (q.geometry#>>'{coordinates,2}')::numeric)),
      string_to_array(trim(both ',' from q.properties->>'sources'), ','),
      q.properties - array['mag', 'time', 'place', 'sources', 'type']
    from jsonb_to_recordset(${data.earthquakes}::jsonb) as q(id text, properties jsonb, geometry jsonb)`)
  await session.query(sql`
    insert into nature.species (item, county, names, code, habitat)
    select s.item_id, s.county_id, array[s.common_name, s.scientific_name], s.gap_species_code,
      coalesce(s.habitat_yearround_pct, 0)
    from jsonb_to_recordset(${data.species}::jsonb)
      as s(item_id text, county_id text, common_name text, scientific_name text, gap_species_code text,
        habitat_yearround_pct real)`)
}
