import { nearest } from '../base/nearest.ts'
import type { Control } from '../control/control.ts'
import type { Session } from '../postgres/connect.ts'
import { sql } from '../postgres/sql.ts'
import type { Binding } from './binding-file.ts'

/** Which host may run what, and why; the rule and its sentences are the control schema's. */

export interface HostState {
  readonly host: string
  readonly active: boolean
  readonly drained: boolean
}

export interface HostVerdict {
  readonly host: string
  readonly binding: Binding['binding'] | 'none'
  readonly may_run: boolean
  readonly code: string
  readonly why: string
}

export interface SiteVerdict {
  /** Null: work of no site. */
  readonly site: string | null
  readonly hosts: readonly HostVerdict[]
  /** The rule lets no active host run its work; one that is full does not count as none. */
  readonly stranded: boolean
}

export interface Matrix {
  readonly hosts: readonly HostState[]
  readonly sites: readonly SiteVerdict[]
}

/** Who may run a site's work, before and after. */
export interface PlacementShift {
  readonly site: string | null
  readonly before: readonly string[]
  readonly after: readonly string[]
  /** Hosts that may run it once they are active. */
  readonly inactive: readonly string[]
}

/** What a matrix is made up of, instead of what is so: all bindings, all hosts that are active. */
export interface Premise {
  readonly wanted?: readonly Binding[] | undefined
  readonly up?: readonly string[] | undefined
}

interface Cell extends HostVerdict, HostState {
  readonly site: string | null
}

async function readMatrix(session: Session, sites: readonly (string | null)[], premise: Premise = {}): Promise<Matrix> {
  return matrixOf(sites, await readCells(session, sites, premise, true))
}

/** `inWords`: with `why`, which takes most of the time. */
async function readCells(
  session: Session,
  sites: readonly (string | null)[],
  premise: Premise,
  inWords: boolean,
): Promise<Cell[]> {
  const wanted = premise.wanted?.map(({ site, host, binding }) => ({ site, host, binding }))
  return session.query<Cell>(sql`
    select m.site, m.host, m.binding, m.active, m.drained, m.may_run, m.code, m.why
    from yardmaster.placement_matrix(${[...sites]}::text[], ${wanted ? JSON.stringify(wanted) : null}::jsonb,
      ${premise.up ? [...premise.up] : null}::text[], null, ${inWords}) m`)
}

function matrixOf(sites: readonly (string | null)[], cells: readonly Cell[]): Matrix {
  const bySite = new Map<string | null, Cell[]>(sites.map((site) => [site, []]))
  for (const cell of cells) bySite.get(cell.site)?.push(cell)
  const [first = []] = bySite.values()
  return {
    hosts: first.map(({ host, active, drained }) => ({ host, active, drained })),
    sites: [...bySite].map(([site, row]) => ({
      site,
      hosts: row.map(({ host, binding, may_run, code, why }) => ({ host, binding, may_run, code, why })),
      stranded: !row.some((cell) => cell.active && mayRun(cell)),
    })),
  }
}

/** By the rule alone: a host that is full at the moment may. */
function mayRun({ may_run, code }: HostVerdict): boolean {
  return may_run || code === 'host_full' || code === 'pair_full'
}

/** Sites of these whose work goes elsewhere under `premise` than now. */
export async function placementShifts(
  session: Session,
  sites: readonly (string | null)[],
  premise: Premise,
): Promise<PlacementShift[]> {
  if (sites.length === 0) return []
  const now = matrixOf(sites, await readCells(session, sites, {}, false))
  return shiftsBetween(now, matrixOf(sites, await readCells(session, sites, premise, false)))
}

function shiftsBetween(now: Matrix, then: Matrix): PlacementShift[] {
  const takers = (verdict: SiteVerdict | undefined) => (verdict?.hosts ?? []).filter(mayRun).map(({ host }) => host)
  const before = new Map(now.sites.map((verdict) => [verdict.site, takers(verdict)]))
  return then.sites
    .map((verdict) => ({
      site: verdict.site,
      before: before.get(verdict.site) ?? [],
      after: takers(verdict),
      inactive: verdict.hosts.filter(({ code }) => code === 'inactive' || code === 'draining').map(({ host }) => host),
    }))
    .filter((shift) => shift.before.join('\n') !== shift.after.join('\n'))
}

/** What a site's place is, as things are. */
export interface Explanation extends Matrix {
  /** Some binding, job, run or setting names it. */
  readonly known: boolean
  /** The known site that may be meant, where it is not. */
  readonly nearest: string | null
  /** Its runs that wait for longest, with what must be so before they start. */
  readonly waiting: readonly WaitingRun[]
}

export interface WaitingRun {
  readonly run_id: string
  readonly checks: readonly WaitingCheck[]
}

export interface WaitingCheck {
  readonly check: string
  readonly ok: boolean
  readonly code: string
  readonly why: string
}

const mostWaiting = 3

export async function explainSite(control: Control, site: string | null): Promise<Explanation> {
  const { session } = control
  const sites = await siteNames(session)
  const known = site === null || sites.includes(site)
  const waiting = await session.query<WaitingRun>(sql`
    select w.id as run_id, (select jsonb_agg(jsonb_build_object('check', c."check", 'ok', c.ok, 'code', c.code, 'why', c.why) order by c.place)
      from yardmaster.waiting_checks(w.id) c) as checks
    from (select r.id, r.slot from yardmaster.lane l cross join lateral (
        select r.id, r.slot from yardmaster.run r where r.status = 'WAITING' and r.queued and r.lane = l.id
        order by r.lane, r.slot, r.id limit ${mostWaiting}) r
      where l.site is not distinct from ${site}::text order by r.slot, r.id limit ${mostWaiting}) w order by w.slot, w.id`)
  return {
    ...(await readMatrix(session, [site])),
    known,
    nearest: known ? null : (nearest(site, sites) ?? null),
    // One that began meanwhile has no checks.
    waiting: waiting.filter(({ checks }) => checks !== null),
  }
}

/** Every site that bindings, jobs, runs or settings name. */
async function siteNames(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(sql`select s.name from yardmaster.sites s order by s.name`)
  return rows.map(({ name }) => name)
}

/** Every site that is known or bound in `wanted`, and work of no site, as it would be; and who may run what elsewhere than now. */
export async function simulate(
  session: Session,
  wanted: readonly Binding[],
  up: readonly string[] | undefined,
): Promise<{ matrix: Matrix; shifts: PlacementShift[] }> {
  const named = new Set([...(await siteNames(session)), ...wanted.map(({ site }) => site)])
  const sites = [...[...named].sort(), null]
  const matrix = await readMatrix(session, sites, { wanted, up })
  const now = matrixOf(sites, await readCells(session, sites, {}, false))
  return { matrix, shifts: shiftsBetween(now, matrix) }
}
