import type { Session } from '../postgres/connect.ts'
import { type QualifiedName, quoteIdentifier, quoteLiteral, quoteQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'

/** Everything of a relation that `CREATE` does not bring back by itself. */
interface Dressing {
  owner: string
  comment: string | null
  columns: { name: string; comment: string | null; fallback: string | null }[]
  /** Of the relation (`column` null) and of single columns, without the owner's own; grantees as SQL names them. */
  grants: { column: string | null; grantee: string; privilege: string; grantable: boolean }[]
  /** Rights that an owner has by nature, and this one gave up. */
  forgone: string[]
  /** Whom default privileges grant something on what our role makes in this schema, as SQL names them. */
  strangers: string[]
}

async function readDressing(session: Session, oid: number, target: QualifiedName): Promise<Dressing> {
  return session.one<Dressing>(sql`
    with held as (
      select a.column, a.relowner, e.grantee, e.privilege_type as privilege, e.is_grantable as grantable
      from (
        select null::text as column, c.relowner, c.relacl as acl from pg_class c where c.oid = ${oid}
        union all
        select a.attname, c.relowner, a.attacl from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.oid = ${oid} and a.attnum > 0 and not a.attisdropped) a
      cross join lateral aclexplode(a.acl) e)
    select pg_get_userbyid(c.relowner) as owner, obj_description(c.oid, 'pg_class') as comment,
      (select jsonb_agg(jsonb_build_object('name', a.attname, 'comment', col_description(c.oid, a.attnum),
          'fallback', pg_get_expr(f.adbin, f.adrelid)) order by a.attnum)
        from pg_attribute a left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum and a.attgenerated = ''
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
      coalesce((select jsonb_agg(jsonb_build_object('column', h.column, 'privilege', h.privilege, 'grantable', h.grantable,
          'grantee', case when h.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(h.grantee)) end)
          order by h.column nulls first, h.grantee, h.privilege)
        from held h where h.column is not null or h.grantee <> h.relowner), '[]') as grants,
      case when c.relacl is null then '{}' else array(
        select e.privilege_type from aclexplode(acldefault('r', c.relowner)) e
        except select h.privilege from held h where h.column is null and h.grantee = h.relowner) end as forgone,
      array(
        select distinct case when e.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(e.grantee)) end
        from pg_default_acl d cross join lateral aclexplode(d.defaclacl) e
        where d.defaclobjtype = 'r' and d.defaclrole = (select oid from pg_roles where rolname = current_user)
          and d.defaclnamespace in (0, (select oid from pg_namespace where nspname = ${target.schema}))
          and e.grantee not in (d.defaclrole, c.relowner)) as strangers
    from pg_class c where c.oid = ${oid}`)
}

/**
 * Statements that give `target`, just made or renamed, the owner, grants, comments and defaults that the relation `oid` has
 * now. `columns`: those that `target` has; default: all of them. The owner comes first: what is granted to our own role
 * would go to the new owner else.
 */
export async function dressingOf(
  session: Session,
  oid: number,
  target: QualifiedName,
  kind: 'VIEW' | 'TABLE',
  columns?: ReadonlySet<string>,
): Promise<string[]> {
  const dressing = await readDressing(session, oid, target)
  const me = await session.one<{ name: string }>(sql`select current_user as name`)
  const name = quoteQualified(target)
  const owner = quoteIdentifier(dressing.owner)
  const has = (column: string) => columns?.has(column) ?? true
  const kept = dressing.columns.filter((column) => has(column.name))
  return [
    ...(dressing.owner === me.name ? [] : [`ALTER ${kind} ${name} OWNER TO ${owner}`]),
    ...dressing.strangers.map((stranger) => `REVOKE ALL ON ${name} FROM ${stranger}`),
    ...dressing.forgone.map((privilege) => `REVOKE ${privilege} ON ${name} FROM ${owner}`),
    ...dressing.grants
      .filter((grant) => grant.column === null || has(grant.column))
      .map((grant) => granting(grant, name)),
    ...(dressing.comment === null ? [] : [`COMMENT ON ${kind} ${name} IS ${quoteLiteral(dressing.comment)}`]),
    ...kept
      .filter((column) => column.comment !== null)
      .map(
        (column) =>
          `COMMENT ON COLUMN ${name}.${quoteIdentifier(column.name)} IS ${quoteLiteral(column.comment ?? '')}`,
      ),
    ...kept
      .filter((column) => column.fallback !== null && kind === 'VIEW')
      .map(
        (column) => `ALTER VIEW ${name} ALTER COLUMN ${quoteIdentifier(column.name)} SET DEFAULT ${column.fallback}`,
      ),
  ]
}

function granting(grant: Dressing['grants'][number], name: string): string {
  const column = grant.column === null ? '' : ` (${quoteIdentifier(grant.column)})`
  return `GRANT ${grant.privilege}${column} ON ${name} TO ${grant.grantee}${grant.grantable ? ' WITH GRANT OPTION' : ''}`
}

/** `WITH (…)` of a view as it stands: CREATE OR REPLACE VIEW without it would drop security_barrier and its like. */
export async function viewOptions(session: Session, oid: number): Promise<string> {
  const { options } = await session.one<{ options: string[] | null }>(
    sql`select reloptions as options from pg_class where oid = ${oid}`,
  )
  return options ? ` WITH (${options.join(', ')})` : ''
}

/** Whether two relations grant the same to the same, column by column. */
export async function sameGrants(session: Session, one: number, other: number): Promise<boolean> {
  const grants = (oid: number) => sql`
    select null::name as column, e.grantee, e.privilege_type, e.is_grantable from pg_class c, aclexplode(c.relacl) e
    where c.oid = ${oid} and e.grantee <> c.relowner
    union all
    select a.attname, e.grantee, e.privilege_type, e.is_grantable from pg_attribute a, aclexplode(a.attacl) e
    where a.attrelid = ${oid} and not a.attisdropped`
  const row = await session.one<{ same: boolean }>(sql`
    select not exists ((${grants(one)}) except all (${grants(other)}))
      and not exists ((${grants(other)}) except all (${grants(one)})) as same`)
  return row.same
}

/** Statements that take from everybody but the owner what the relation `oid` grants; from its columns too. */
export async function undressing(session: Session, oid: number, target: QualifiedName): Promise<string[]> {
  const rows = await session.query<{ grantee: string }>(sql`
    select distinct case when e.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(e.grantee)) end as grantee
    from pg_class c cross join lateral (
      select c.relacl as acl union all
      select a.attacl from pg_attribute a where a.attrelid = c.oid and not a.attisdropped) g
    cross join lateral aclexplode(g.acl) e where c.oid = ${oid} and e.grantee <> c.relowner`)
  return rows.map((row) => `REVOKE ALL ON ${quoteQualified(target)} FROM ${row.grantee}`)
}
