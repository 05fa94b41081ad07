import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import type { Session } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import { inTransaction } from '../postgres/transaction.ts'
import { type Binding, type HostName, scanFile, settleFile } from './binding-file.ts'
import { type PlacementShift, placementShifts } from './matrix.ts'
import { asRefusal } from './refusal.ts'

/** What would become, or became, of a pair; null: no binding. */
export interface BindingChange {
  readonly site: string
  readonly host: string
  readonly before: Binding['binding'] | null
  readonly after: Binding['binding'] | null
}

/** A host that a binding names, but that nobody has said anything about and no worker was seen on. */
export interface UnknownHost {
  readonly host: string
  /** The known one that it may be meant for. */
  readonly nearest: string | null
}

/** What a change of bindings does, from first to last. */
export interface BindingPlan {
  readonly changes: readonly BindingChange[]
  /** Sites whose work goes elsewhere, as hosts are up now. */
  readonly shifts: readonly PlacementShift[]
  readonly unknownHosts: readonly UnknownHost[]
  /** Sites that no host could run, though one can now. */
  readonly stranded: readonly string[]
  /** The same in words; null where there are none. */
  readonly refusal: string | null
}

/** A change that is asked for: a set instead of all bindings, one pair (null takes its binding away), or the last change taken back. */
export type BindingRequest =
  | { readonly kind: 'all'; readonly bindings: readonly Binding[] }
  | { readonly kind: 'pair'; readonly site: string; readonly host: string; readonly binding: Binding['binding'] | null }
  | { readonly kind: 'undo' }

export interface ChangeOptions {
  /** Sites that may be left without a host. */
  readonly mayStrand: 'all' | readonly string[]
  /** Nothing is written. */
  readonly dryRun: boolean
}

export interface ChangeOutcome {
  readonly plan: BindingPlan
  /** False after a dry run, and where the plan was refused. */
  readonly applied: boolean
  /** The change that was taken back. */
  readonly undoes: string | null
}

/** What each of these names is a host by. */
export async function hostNames(session: Session, names: Iterable<string>): Promise<Map<string, HostName>> {
  const rows = await session.query<{ name: string } & HostName>(sql`
    select n.name, yardmaster.host_of(n.name) as host, yardmaster.host_name_fault(n.name) as fault
    from unnest(${[...new Set(names)]}::text[]) n(name)`)
  return new Map(rows.map(({ name, host, fault }) => [name, { host, fault }]))
}

/** Reads a file's bytes, as what people call its hosts is known here. Throws `bindings_invalid`. */
export async function readBindings(session: Session, file: string, bytes: Uint8Array): Promise<Binding[]> {
  const scanned = scanFile(bytes)
  const names = scanned.rows.map(({ host }) => host)
  return settleFile(file, scanned, await hostNames(session, names))
}

/**
 * Plans a change and, where nothing speaks against it, does exactly that, under the lock of all bindings. Throws
 * `nothing_to_undo`, `wrong_usage`; a change that is refused is no failure here.
 */
export async function changeBindings(
  session: Session,
  request: BindingRequest,
  { mayStrand, dryRun }: ChangeOptions,
): Promise<ChangeOutcome> {
  return inTransaction(session, dryRun ? readOnly : 'begin', async () => {
    // Before the first look, so that nobody changes what was planned for.
    if (!dryRun) await session.query(sql`select yardmaster.lock_placement()`)
    const { wanted, undoes } = await wantedBy(session, request)
    const plan = await planBindings(session, wanted)
    const refused = mayStrand !== 'all' && plan.stranded.some((site) => !mayStrand.includes(site))
    if (dryRun || refused) return { plan, applied: false, undoes }
    await apply(session, request, mayStrand === 'all' || plan.stranded.length > 0)
    return { plan, applied: true, undoes }
  })
}

const readOnly = 'begin transaction isolation level repeatable read read only'

/** A look at several things as they are at one moment. */
export async function atOneMoment<Result>(session: Session, body: () => Promise<Result>): Promise<Result> {
  return inTransaction(session, readOnly, body)
}

/** All bindings as they would be. */
async function wantedBy(
  session: Session,
  request: BindingRequest,
): Promise<{ wanted: readonly Binding[]; undoes: string | null }> {
  if (request.kind === 'all') return { wanted: request.bindings, undoes: null }
  const now = await session.query<Binding>(sql`select site, host, binding from yardmaster.bindings order by site, host`)
  if (request.kind === 'pair') {
    const [pair] = await withHosts(session, [request])
    return { wanted: pair ? merge(now, [pair]) : now, undoes: null }
  }
  const last = await lastChange(session)
  return { wanted: merge(now, await withHosts(session, last.before)), undoes: last.id }
}

interface Pair {
  readonly site: string
  readonly host: string
  readonly binding: Binding['binding'] | null
}

/** By the names that hosts go by now. Throws `wrong_usage` for what can't be one. */
async function withHosts(session: Session, pairs: readonly Pair[]): Promise<Pair[]> {
  const known = await hostNames(
    session,
    pairs.map(({ host }) => host),
  )
  return pairs.map(({ site, host, binding }) => {
    const name = known.get(host) ?? { host, fault: null }
    if (name.fault === null) return { site, host: name.host, binding }
    throw new Failure('wrong_usage', {
      message: `A host cannot be called '${printable(host)}': ${name.fault}.`,
      object: printable(host),
      remedy: "For example: yardmaster binding set CEO h2 prefer; the site is named first, and '' is the default site.",
    })
  })
}

/** These pairs over those bindings. */
function merge(bindings: readonly Binding[], pairs: readonly Pair[]): Binding[] {
  const changed = new Map(pairs.map((pair) => [JSON.stringify([pair.site, pair.host]), pair]))
  const kept = bindings.filter(({ site, host }) => !changed.has(JSON.stringify([site, host])))
  return [...kept, ...pairs.flatMap(({ site, host, binding }) => (binding === null ? [] : [{ site, host, binding }]))]
}

/** The newest change that was not taken back. Throws `nothing_to_undo`. */
async function lastChange(session: Session): Promise<{ id: string; before: Pair[] }> {
  // From the log itself: the view would read a large change once a row.
  const last = await session.first<{ id: string; before: Pair[] }>(sql`
    select a.id, yardmaster.bindings_before(a.id) as before from yardmaster.audit_log a
    where a.object_kind = 'bindings' and a.after ->> 'undoes' is null and not exists (${undoOf})
    order by a.id desc limit 1`)
  if (last) return last
  throw new Failure('nothing_to_undo', { message: 'There is no change of bindings that could be undone.' })
}

/** The change that took `a` back. */
const undoOf = sql`select u.id from yardmaster.audit_log u where u.object_kind = 'bindings' and (u.after ->> 'undoes')::bigint = a.id`

/** What would change if these were all bindings. Throws `wrong_usage`. */
export async function planBindings(session: Session, wanted: readonly Binding[]): Promise<BindingPlan> {
  const list = JSON.stringify(wanted.map(({ site, host, binding }) => ({ site, host, binding })))
  const changes = await session
    .query<BindingChange>(sql`select site, host, before, after from yardmaster.plan_bindings(${list}::jsonb, true)`)
    .catch((error: unknown) => {
      throw asRefusal(error, { YM003: 'wrong_usage' }, { object: 'binding' })
    })
  const { stranded, refusal } = await session.one<{ stranded: string[]; refusal: string | null }>(sql`
    select s.sites as stranded, case when s.sites <> '{}' then yardmaster.hopeless_text(s.sites) end as refusal
    from (select array(select h.site from yardmaster.hopeless_sites(${list}::jsonb) h
      except select h.site from yardmaster.hopeless_sites() h order by 1) as sites) s`)
  const sites = [...new Set(changes.map(({ site }) => site))]
  const shifts = await placementShifts(session, sites, { wanted })
  const named = changes.flatMap(({ host, after }) => (after === null ? [] : [host]))
  return { changes, shifts, unknownHosts: await unknownHosts(session, named), stranded, refusal }
}

/** Those of `names` that no worker was seen on and nothing was said about: a mistyped host in a forbid forbids nothing. */
export async function unknownHosts(session: Session, names: readonly string[]): Promise<UnknownHost[]> {
  const rows = await session.query<{ name: string }>(sql`select s.name from yardmaster.seen_hosts s order by s.name`)
  const seen = rows.map(({ name }) => name)
  return [...new Set(names)]
    .filter((host) => !seen.includes(host))
    .map((host) => ({ host, nearest: nearest(host, seen) ?? null }))
}

async function apply(session: Session, request: BindingRequest, force: boolean): Promise<void> {
  if (request.kind === 'undo') await session.query(sql`select yardmaster.undo_bindings(${force})`)
  else if (request.kind === 'pair')
    await session.query(
      sql`select yardmaster.set_binding(${request.site}, ${request.host}, ${request.binding}::text, ${force})`,
    )
  else await session.query(sql`select yardmaster.set_bindings(${JSON.stringify(request.bindings)}::jsonb, ${force})`)
}

/** A binding, and what is known of its host. */
export interface ListedBinding extends Binding {
  readonly active: boolean
  readonly drained: boolean
  /** A worker was seen on it in the last week, or something was said about it. */
  readonly known: boolean
}

export async function listBindings(control: Control): Promise<ListedBinding[]> {
  return control.session.query<ListedBinding>(sql`
    select b.site, b.host, b.binding, coalesce(h.active, false) as active, coalesce(h.drained, false) as drained,
      b.host in (select s.name from yardmaster.seen_hosts s) as known
    from yardmaster.bindings b left join yardmaster.hosts h on h.name = b.host order by b.site, b.host`)
}

/** One change in the history: who, when, by which face, before and after. */
export interface RecordedChange {
  readonly id: string
  readonly at: Date
  readonly actor: string
  readonly face: string
  /** It left a site without a host. */
  readonly forced: boolean
  readonly undoes: string | null
  readonly undone_by: string | null
  readonly changes: BindingChange[]
}

/** Newest first. */
export async function listChanges(control: Control, limit: number): Promise<RecordedChange[]> {
  return control.session.query<RecordedChange>(sql`
    select a.id, a.at, a.actor, a.face, coalesce((a.after ->> 'forced')::boolean, false) as forced, a.after ->> 'undoes' as undoes,
      (${undoOf} limit 1)::text as undone_by,
      (select coalesce(jsonb_agg(jsonb_build_object('site', c.site, 'host', c.host, 'before', c.before, 'after', c.after)
          order by c.site, c.host), '[]')
        from yardmaster.binding_changes c where c.id = a.id) as changes
    from yardmaster.audit_log a where a.object_kind = 'bindings' order by a.id desc limit ${limit}`)
}

/** Notes that a watched file can't be applied, which `check` says until bindings are set. */
export async function refuseFile(session: Session, path: string, host: string, message: string): Promise<void> {
  await session.query(sql`select yardmaster.refuse_file(${path}, ${host}, ${message})`)
}
