import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import { sql, trusted } from '../postgres/sql.ts'
import { dressingOf, viewOptions } from './dressing.ts'

/** A view of the people of the destination that reads our view, directly or through others. */
export interface DependentView {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: string
  /** `t` for one that lives in somebody's session. */
  readonly persistence: string
  /** `pg_get_viewdef` with an empty search_path: every name in it is qualified. */
  readonly definition: string
  /** Columns of our view that it names; an empty name stands for the whole row. */
  readonly columns: readonly string[]
  readonly depth: number
}

/** What stands above a relation, nearest first: views, and whatever else has a rule that reads it. */
export async function dependentViews(session: Session, oid: number): Promise<DependentView[]> {
  return session.query<DependentView>(sql`
    with recursive above as (
      select distinct r.ev_class as oid, 1 as depth
      from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      where d.refclassid = 'pg_class'::regclass and d.refobjid = ${oid} and r.ev_class <> d.refobjid
      union
      select r.ev_class, a.depth + 1
      from above a join pg_class c on c.oid = a.oid and c.relkind in ('v', 'm')
      join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.oid
      join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      where r.ev_class <> d.refobjid and a.depth < 100)
    select c.oid, n.nspname as schema, c.relname as name, c.relkind as kind, c.relpersistence as persistence,
      coalesce(pg_get_viewdef(c.oid), '') as definition,
      coalesce((select array_agg(distinct coalesce(t.attname::text, '')) from pg_depend d
        join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and r.ev_class = c.oid
        left join pg_attribute t on t.attrelid = d.refobjid and t.attnum = d.refobjsubid and d.refobjsubid > 0
        where d.refclassid = 'pg_class'::regclass and d.refobjid = ${oid}), '{}') as columns,
      max(a.depth) as depth
    from above a join pg_class c on c.oid = a.oid join pg_namespace n on n.oid = c.relnamespace
    group by c.oid, n.nspname, c.relname, c.relkind, c.relpersistence order by max(a.depth), c.oid`)
}

/**
 * Refuses, before anything is changed, when a dependent object stands in the way of making the view again: a view that
 * names a column which goes or changes its type, anything that cannot be made again from its definition, or one that
 * belongs to somebody else. `why` says what is to happen. Throws `dependent_objects`, `permission_denied`.
 */
export async function refuseBlockedChange(
  session: Session,
  view: { oid: number; label: string },
  vanishing: readonly string[],
  why = `The source of ${view.label} changed (${vanishing.length > 0 ? `gone or of another type: ${vanishing.map(displayName).join(', ')}` : 'columns in another order'})`,
): Promise<DependentView[]> {
  const views = await dependentViews(session, view.oid)
  const blocked = views.filter(
    (one) =>
      one.kind !== 'v' ||
      one.persistence === 't' ||
      one.columns.some((column) => column === '' || vanishing.includes(column)),
  )
  const others = await otherDependents(session, [view.oid, ...views.map((one) => one.oid)])
  const names = [...new Set([...blocked.map(displayQualified), ...others])]
  if (names.length === 0) {
    await refuseForeignOwners(session, view, views, why)
    return views
  }
  throw new Failure('dependent_objects', {
    message: `${why}, but ${names.join(', ')} depend${names.length === 1 ? 's' : ''} on it as it was. Nothing was changed; readers go on with the last copy.`,
    object: view.label,
    remedy: `Change or drop ${names.join(', ')}, then run the command again.`,
  })
}

/** What else hangs on these views and would be lost, or would keep them from being dropped: triggers, rules, functions … */
async function otherDependents(session: Session, oids: readonly number[]): Promise<string[]> {
  const held = sql`(select c.oid, c.reltype, t.typarray from pg_class c join pg_type t on t.oid = c.reltype
    where c.oid = any(${oids.map(String)}::oid[]))`
  const rows = await session.query<{ text: string }>(sql`
    select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as text from pg_depend d
    left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    where d.deptype in ('n', 'a') and r.rulename is distinct from '_RETURN'
      and ((d.refclassid = 'pg_class'::regclass and d.refobjid in (select h.oid from ${held} h))
        or (d.refclassid = 'pg_type'::regclass and (d.refobjid in (select h.reltype from ${held} h)
          or d.refobjid in (select h.typarray from ${held} h))))
      and d.classid not in ('pg_attrdef'::regclass)
      and not (d.classid = 'pg_type'::regclass and d.objid in (select h.typarray from ${held} h))
    order by 1`)
  return rows.map((row) => row.text)
}

/** To make a view again as it was, our role must be able to act for its owner, and to make views in its schema. */
async function refuseForeignOwners(
  session: Session,
  view: { oid: number; label: string },
  views: readonly DependentView[],
  why: string,
): Promise<void> {
  const become = session.major >= 16 ? `pg_has_role(c.relowner, 'SET')` : 'true'
  const rows = await session.query<{ schema: string; name: string; owner: string; owned: boolean }>(sql`
    select n.nspname as schema, c.relname as name, pg_get_userbyid(c.relowner) as owner,
      pg_has_role(c.relowner, 'USAGE') and ${trusted(become)} as owned
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = any(${[view.oid, ...views.map((one) => one.oid)].map(String)}::oid[])
      and not (pg_has_role(c.relowner, 'USAGE') and ${trusted(become)} and has_schema_privilege(n.oid, 'CREATE')
        and has_schema_privilege(c.relowner, n.oid, 'CREATE'))
    order by 1, 2`)
  if (rows.length === 0) return
  const role = quoteIdentifier(session.parts.user)
  const strange = rows.filter((row) => !row.owned)
  const statements = [
    ...strange.map((row) => `GRANT ${quoteIdentifier(row.owner)} TO ${role};`),
    ...rows.map(
      (row) => `GRANT CREATE ON SCHEMA ${quoteIdentifier(row.schema)} TO ${role}, ${quoteIdentifier(row.owner)};`,
    ),
  ]
  const named = rows.map((row) => `${displayQualified(row)} of the role ${displayName(row.owner)}`).join(', ')
  throw new Failure('permission_denied', {
    message: `${why}, so ${named} must be made again, which our role may not do. Nothing was changed; readers go on with the last copy.`,
    object: view.label,
    remedy: `As an administrator of ${session.object}: ${[...new Set(statements)].join(' ')}`,
  })
}

/** Statements that drop the views (farthest first) and make them again (nearest first), dressed as they were. */
export async function replaceStatements(
  session: Session,
  views: readonly DependentView[],
): Promise<{ drop: string[]; create: string[] }> {
  const drop: string[] = []
  const create: string[] = []
  for (const view of views) {
    drop.unshift(`DROP VIEW ${quoteQualified(view)}`)
    create.push(
      `CREATE VIEW ${quoteQualified(view)}${await viewOptions(session, view.oid)} AS ${view.definition}`,
      ...(await dressingOf(session, view.oid, view, 'VIEW')),
    )
  }
  return { drop, create }
}

/** Runs statements of our own making one after the other. */
export async function runStatements(session: Session, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await session.query(trusted(statement))
}
