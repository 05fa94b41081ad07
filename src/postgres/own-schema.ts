import { Failure } from '../base/failure.ts'
import type { Session } from './connect.ts'
import { displayName, quoteIdentifier } from './identifier.ts'
import { sql } from './sql.ts'

/** The first thing of the schema `yardmaster` that belongs to somebody whom we don't trust; no row where there is none. */
export const strangeObject = sql`
  with inside as materialized (
    -- No index leads from a schema to what is in it but this one.
    select d.classid, d.objid from pg_depend d where d.refclassid = 'pg_namespace'::regclass
      and d.refobjid = (select n.oid from pg_namespace n where n.nspname = 'yardmaster'))
  select o.what, pg_get_userbyid(o.owner) as owner
  from (
    select 'schema yardmaster' as what, n.nspowner as owner from pg_namespace n where n.nspname = 'yardmaster'
    union all
    select 'yardmaster.' || c.relname, c.relowner from inside i join pg_class c on c.oid = i.objid
    where i.classid = 'pg_class'::regclass and c.relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select 'function yardmaster.' || p.proname, p.proowner from inside i join pg_proc p on p.oid = i.objid
    where i.classid = 'pg_proc'::regclass) as o
  where o.owner <> (select datdba from pg_database where datname = current_database())
    and not pg_has_role(o.owner, 'USAGE') and not (select r.rolsuper from pg_roles r where r.oid = o.owner)
  limit 1`

export interface StrangeObject {
  readonly what: string
  readonly owner: string
}

/**
 * Whoever may create schemas in a database could have made `yardmaster` there before us, with triggers and functions that
 * would run as us. So what is in it counts only when it belongs to our role, to the database's owner or to a superuser
 * (a superuser of ours is a member of every role, and not protected).
 * Throws `permission_denied`.
 */
export async function requireTrustedSchema(session: Session): Promise<void> {
  const strange = await session.first<StrangeObject>(strangeObject)
  if (strange) throw strangeSchema(session, strange)
}

export function strangeSchema(session: Session, strange: StrangeObject): Failure {
  return new Failure('permission_denied', {
    message: `The ${strange.what} in ${session.object} belongs to the role ${displayName(strange.owner)}, which could run its own code as ours.`,
    object: session.object,
    remedy: `If that is right, as an administrator: GRANT ${quoteIdentifier(strange.owner)} TO ${quoteIdentifier(session.parts.user)}; else rename or drop that schema.`,
  })
}
