import { Failure } from '../base/failure.ts'
import type { Session } from '../postgres/connect.ts'
import { displayName, displayQualified, type QualifiedName } from '../postgres/identifier.ts'
import { relation, type Sql, sql, trusted } from '../postgres/sql.ts'
import { asAuthors } from './author-settings.ts'

/** A routine as a job names it. */
export interface RoutineName {
  /** null: the first one on the search path that a session of the job's role begins with. */
  readonly schema: string | null
  readonly name: string
}

/** The procedure or function that a job calls, as its database has it. */
export interface Action extends QualifiedName {
  readonly kind: 'procedure' | 'function'
  /** Its first argument's type, the job's id. */
  readonly idType: 'integer' | 'bigint'
  /** Whether it could COMMIT or ROLLBACK inside: never a function. */
  readonly mayCommit: boolean
}

/** A routine by the name of a job's action. */
export interface Candidate {
  readonly schema: string
  readonly kind: string
  readonly signature: string
  readonly id_type: string | null
  readonly language: string
  readonly source: string
  readonly atomic: boolean
}

/**
 * Looks the action of a job up: `name(integer, jsonb)`, else `name(bigint, jsonb)`; further arguments need defaults. For
 * sessions whose search_path is empty. Throws `action_missing`.
 */
async function findAction(session: Session, name: RoutineName): Promise<Action> {
  const path = await schemasOf(session, name)
  return chooseAction(session, name, await session.query<Candidate>(candidatesOf(name, path)))
}

/** Everything by that name in these schemas, the best first. For sessions whose search_path is empty. */
export function candidatesOf(name: RoutineName, path: readonly string[]): Sql {
  return sql`
    select n.nspname as schema, p.prokind as kind, p.oid::regprocedure::text as signature, l.lanname as language,
      coalesce(p.prosrc, '') as source, p.prosecdef or p.proconfig is not null as atomic,
      case when p.prokind in ('f', 'p') and p.pronargs - p.pronargdefaults <= 2 and p.pronargs >= 2
        and p.proargtypes[1] = 'jsonb'::regtype and p.provariadic = 0 then
        case p.proargtypes[0] when 'int4'::regtype then 'integer' when 'int8'::regtype then 'bigint' end end as id_type
    from unnest(${[...path]}::text[]) with ordinality as w(schema, place) join pg_namespace n on n.nspname = w.schema
    join pg_proc p on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
    where p.proname = ${name.name}
    order by w.place, (p.proargtypes[0] = 'int4'::regtype) desc, p.pronargs, p.oid`
}

/** Throws `action_missing`. */
export function chooseAction(session: Session, name: RoutineName, candidates: readonly Candidate[]): Action {
  const found = candidates.find(({ id_type }) => id_type !== null)
  if (!found) throw missing(session, name, candidates)
  const kind = found.kind === 'p' ? 'procedure' : 'function'
  return {
    schema: found.schema,
    name: name.name,
    kind,
    idType: found.id_type === 'bigint' ? 'bigint' : 'integer',
    mayCommit: kind === 'procedure' && !found.atomic && couldCommit(found.language, found.source),
  }
}

/** Where a routine is looked for. What stands in pg_catalog is nobody's action. */
export async function schemasOf(session: Session, { schema }: RoutineName): Promise<string[]> {
  if (schema !== null) return [schema]
  await session.script('reset search_path')
  const { path } = await session.one<{ path: string[] }>(
    sql`select pg_catalog.current_schemas(false)::pg_catalog.text[] as path`,
  )
  await session.script("set search_path = ''")
  return path
}

/** For people. */
function labelOf({ schema, name }: RoutineName): string {
  return schema === null ? displayName(name) : displayQualified({ schema, name })
}

/**
 * Whether a procedure's source could end a transaction. PostgreSQL forbids it to procedures that are SECURITY DEFINER or
 * have settings of their own, and to those in SQL; PL/pgSQL can only by these words (dynamic SQL runs none of them with
 * effect). Any other language may have ways that no word shows. A word in a comment counts: it costs little.
 */
export function couldCommit(language: string, source: string): boolean {
  if (language === 'sql') return false
  if (language !== 'plpgsql') return true
  return /commit|rollback|\bcall\b|\bdo\b(?!\s+(?:nothing|update|instead|also)\b)/i.test(source)
}

function missing(session: Session, name: RoutineName, there: readonly Candidate[]): Failure {
  const label = labelOf(name)
  const others = there.map(({ signature }) => signature).slice(0, 5)
  return new Failure('action_missing', {
    message: `function or procedure "${label}(integer, jsonb)" does not exist in ${session.object}${others.length > 0 ? `; there is ${others.join(', ')}` : ''}`,
    object: session.object,
    remedy: 'Custom job actions must accept (integer, jsonb) arguments.',
    sqlstate: '42883',
  })
}

/** What calls it with this number; the arguments are bound, whatever the types of others by that name are. */
export function callOf({ schema, name, kind, idType }: Action, id: string, config: string | null): Sql {
  const args = sql`(${id}::pg_catalog.${trusted(idType === 'bigint' ? 'int8' : 'int4')}, ${config}::pg_catalog.jsonb)`
  const target = relation({ schema, name })
  return kind === 'procedure' ? sql`call ${target}${args}` : sql`select ${target}${args}`
}

/** What is looked at before a job with a procedure is let loose. */
export interface Checked {
  readonly action: RoutineName
  /** A function of the configuration that raises an error where it refuses it. */
  readonly check: RoutineName | null
  /** jsonb as text; null is SQL NULL. */
  readonly config: string | null
}

/**
 * Looks a job's action up, and asks its check whether the configuration is fine; whatever the check writes is rolled back.
 * Changes the session's settings. Throws `action_missing`, `config_refused`.
 */
export async function checkAction(session: Session, { action, check, config }: Checked): Promise<Action> {
  const found = await findAction(session, action)
  if (!check) return found
  const checker = await findCheck(session, check)
  await session.script(asAuthors)
  await session.script('begin')
  try {
    await session.query(sql`select ${relation(checker)}(${config}::pg_catalog.jsonb)`)
  } catch (error) {
    const failure = session.failure(error)
    if (failure.sqlstate === undefined || failure.code.endsWith('_unreachable')) throw failure
    throw new Failure('config_refused', {
      message: `${labelOf(check)} refuses the configuration: ${failure.message}`,
      object: session.object,
      sqlstate: failure.sqlstate,
      cause: failure,
    })
  } finally {
    await session.script('rollback').catch(() => undefined)
  }
  return found
}

async function findCheck(session: Session, check: RoutineName): Promise<QualifiedName> {
  const path = await schemasOf(session, check)
  const found = await session.query<{ schema: string; function: boolean }>(sql`
    select n.nspname as schema, p.prokind = 'f' as function
    from unnest(${path}::text[]) with ordinality as w(schema, place) join pg_namespace n on n.nspname = w.schema
    join pg_proc p on n.oid = p.pronamespace
    where p.proname = ${check.name} and p.pronargs - p.pronargdefaults <= 1 and p.proargtypes[0] = 'jsonb'::regtype
    order by w.place`)
  const first = found.find((one) => one.function)
  if (first) return { schema: first.schema, name: check.name }
  const object = session.object
  const label = labelOf(check)
  if (found.length > 0)
    throw new Failure('config_refused', {
      message: `${label} is a procedure. Only functions are allowed as custom configuration checks`,
      object,
    })
  throw new Failure('action_missing', {
    message: `function or procedure "${label}(jsonb)" does not exist in ${object}`,
    object,
    remedy: 'Custom configuration checks must accept one (jsonb) argument.',
    sqlstate: '42883',
  })
}
