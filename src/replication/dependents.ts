import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, quoteIdentifier, quoteLiteral, quoteQualified } from '../postgres/identifier.ts'
import { sql, trusted } from '../postgres/sql.ts'

/** A view of the people of the destination that reads our view, directly or through others. */
export interface DependentView {
  readonly oid: number
  readonly schema: string
  readonly name: string
  readonly kind: string
  /** `pg_get_viewdef` with an empty search_path: every name in it is qualified. */
  readonly definition: string
  /** Columns of our view that it names; an empty name stands for the whole row. */
  readonly columns: readonly string[]
  readonly depth: number
}

/** Everything that `CREATE` does not bring back by itself. */
interface Dressing {
  owner: string
  acl: string[] | null
  options: string[] | null
  comment: string | null
  columnComments: { name: string; comment: string }[]
  rules: number
  triggers: number
}

/** Views above a relation, nearest first. */
export async function dependentViews(session: Session, oid: number): Promise<DependentView[]> {
  return session.query<DependentView>(sql`
    with recursive above as (
      select distinct r.ev_class as oid, d.refobjid as below, 1 as depth
      from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      where d.refclassid = 'pg_class'::regclass and d.refobjid = ${oid} and r.ev_class <> d.refobjid
      union
      select distinct r.ev_class, d.refobjid, a.depth + 1
      from above a join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.oid
      join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      where r.ev_class <> d.refobjid and a.depth < 100)
    select c.oid, n.nspname as schema, c.relname as name, c.relkind as kind, pg_get_viewdef(c.oid) as definition,
      coalesce((select array_agg(distinct coalesce(t.attname::text, '')) from pg_depend d
        join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and r.ev_class = c.oid
        left join pg_attribute t on t.attrelid = d.refobjid and t.attnum = d.refobjsubid and d.refobjsubid > 0
        where d.refclassid = 'pg_class'::regclass and d.refobjid = ${oid}), '{}') as columns,
      max(a.depth) as depth
    from above a join pg_class c on c.oid = a.oid join pg_namespace n on n.oid = c.relnamespace
    group by c.oid, n.nspname, c.relname, c.relkind order by max(a.depth), c.oid`)
}

/**
 * Refuses, before anything is changed, when a dependent object stands in the way of a new structure: a view that names a
 * column which goes or changes its type, or anything that cannot be made again from its definition.
 */
export async function refuseBlockedChange(
  session: Session,
  view: { oid: number; label: string },
  vanishing: readonly string[],
): Promise<DependentView[]> {
  const views = await dependentViews(session, view.oid)
  const using = views.filter((one) => one.columns.some((column) => column === '' || vanishing.includes(column)))
  const unmovable: string[] = []
  for (const one of views) {
    const dressing = await readDressing(session, one.oid)
    if (one.kind !== 'v' || dressing.rules > 1 || dressing.triggers > 0) unmovable.push(displayQualified(one))
  }
  const others = await otherDependents(session, [view.oid, ...views.map((one) => one.oid)])
  const names = [...new Set([...using.map(displayQualified), ...unmovable, ...others])]
  if (names.length === 0) return views
  throw new Failure('dependent_objects', {
    message: `The source of ${view.label} changed (${vanishing.length > 0 ? `gone or of another type: ${vanishing.map(displayName).join(', ')}` : 'columns in another order'}), but ${names.join(', ')} depend${names.length === 1 ? 's' : ''} on it as it was. Nothing was changed; readers go on with the last copy.`,
    object: view.label,
    remedy: `Change or drop ${names.join(', ')}, then refresh again; or keep the columns out with: yardmaster replication set ${view.label} columns=…`,
  })
}

/** What else depends on these views and would be lost: functions with SQL bodies, policies, publications and the like. */
async function otherDependents(session: Session, oids: readonly number[]): Promise<string[]> {
  const rows = await session.query<{ text: string }>(sql`
    select distinct pg_describe_object(d.classid, d.objid, 0) as text from pg_depend d
    where d.refclassid = 'pg_class'::regclass and d.refobjid = any(${oids.map(String)}::oid[]) and d.deptype = 'n'
      and d.classid not in ('pg_rewrite'::regclass, 'pg_type'::regclass, 'pg_class'::regclass, 'pg_constraint'::regclass)`)
  return rows.map((row) => row.text)
}

/** Statements that drop the views (farthest first) and make them again (nearest first), dressed as they were. */
export async function replaceStatements(
  session: Session,
  views: readonly DependentView[],
): Promise<{ drop: string[]; create: string[] }> {
  const drop: string[] = []
  const create: string[] = []
  for (const view of views) {
    const dressing = await readDressing(session, view.oid)
    drop.unshift(`DROP VIEW ${quoteQualified(view)}`)
    const options = dressing.options ? ` WITH (${dressing.options.join(', ')})` : ''
    create.push(
      `CREATE VIEW ${quoteQualified(view)}${options} AS ${view.definition}`,
      ...(await dressStatements(session, view, dressing, 'VIEW')),
    )
  }
  return { drop, create }
}

/** Statements that give `target` the owner, grants and comments that the relation `oid` has now. */
export async function dressingOf(
  session: Session,
  oid: number,
  target: { schema: string; name: string },
  kind: 'VIEW' | 'TABLE',
): Promise<string[]> {
  return dressStatements(session, target, await readDressing(session, oid), kind)
}

/** `WITH (…)` of a view as it stands: CREATE OR REPLACE VIEW without it would drop security_barrier and its like. */
export async function viewOptions(session: Session, oid: number): Promise<string> {
  const { options } = await readDressing(session, oid)
  return options ? ` WITH (${options.join(', ')})` : ''
}

async function readDressing(session: Session, oid: number): Promise<Dressing> {
  return session.one<Dressing>(sql`
    select pg_get_userbyid(c.relowner) as owner, c.relacl::text[] as acl, c.reloptions as options,
      obj_description(c.oid, 'pg_class') as comment,
      coalesce((select jsonb_agg(jsonb_build_object('name', a.attname, 'comment', col_description(c.oid, a.attnum)))
        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and col_description(c.oid, a.attnum) is not null), '[]') as "columnComments",
      (select count(*)::int from pg_rewrite r where r.ev_class = c.oid) as rules,
      (select count(*)::int from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal) as triggers
    from pg_class c where c.oid = ${oid}`)
}

async function dressStatements(
  session: Session,
  target: { schema: string; name: string },
  dressing: Dressing,
  kind: 'VIEW' | 'TABLE',
): Promise<string[]> {
  const name = quoteQualified(target)
  const grants =
    dressing.acl === null
      ? []
      : await session.query<{ grantee: string; privilege: string; grantable: boolean }>(sql`
          select case when a.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee,
            a.privilege_type as privilege, a.is_grantable as grantable
          from aclexplode(${dressing.acl}::aclitem[]) a
          where a.grantee <> (select oid from pg_roles where rolname = ${dressing.owner})`)
  const me = await session.one<{ name: string }>(sql`select current_user as name`)
  return [
    ...(dressing.comment === null ? [] : [`COMMENT ON ${kind} ${name} IS ${quoteLiteral(dressing.comment)}`]),
    ...dressing.columnComments.map(
      (column) => `COMMENT ON COLUMN ${name}.${quoteIdentifier(column.name)} IS ${quoteLiteral(column.comment)}`,
    ),
    ...grants.map(
      (grant) =>
        `GRANT ${grant.privilege} ON ${name} TO ${grant.grantee}${grant.grantable ? ' WITH GRANT OPTION' : ''}`,
    ),
    ...(dressing.owner === me.name ? [] : [`ALTER ${kind} ${name} OWNER TO ${quoteIdentifier(dressing.owner)}`]),
  ]
}

/** Runs statements of our own making one after the other. */
export async function runStatements(session: Session, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await session.query(trusted(statement))
}
