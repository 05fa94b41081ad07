import { displayQualified } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { SourceRead } from './source-read.ts'

/** A sequence that a default takes its numbers from. */
export interface FeedingSequence {
  readonly schema: string
  readonly name: string
  /** Numbers that a session takes at once. */
  readonly cache: string
  readonly increment: string
  readonly cycle: boolean
  /** Null where it was never used, or our role may not see it. */
  readonly last: string | null
}

/** What fills the control column where a writer says nothing: of the table, and of each partition and child. */
export interface ControlDefault {
  /** `schema.name` of the table. */
  readonly table: string
  /** As PostgreSQL prints it; null for none, and for identity columns. */
  readonly expression: string | null
  readonly isIdentity: boolean
  /** Whether a trigger before INSERT may fill it. */
  readonly hasTrigger: boolean
  /** Whether logical replication writes to the table: with values of another server, and in the order of its commits. */
  readonly isSubscribed: boolean
  readonly sequences: readonly FeedingSequence[]
}

/** Reads the column's defaults, the table's own first. Views and foreign tables have none that we could see. */
export async function readDefaults(source: SourceRead, column: string): Promise<ControlDefault[]> {
  const { oid, leaves } = source.relation
  const tables = [oid, ...leaves.map((leaf) => leaf.oid).filter((leaf) => leaf !== oid)]
  return source.session.query<ControlDefault>(sql`
    select n.nspname || '.' || c.relname as "table", pg_get_expr(d.adbin, d.adrelid) as expression,
      a.attidentity <> '' as "isIdentity",
      exists (select from pg_trigger t where t.tgrelid = a.attrelid and not t.tgisinternal and t.tgenabled <> 'D'
        and t.tgtype & 7 = 7) as "hasTrigger",
      exists (select from pg_subscription_rel r where r.srrelid = a.attrelid) as "isSubscribed",
      coalesce((select json_agg(json_build_object('schema', sn.nspname, 'name', sc.relname, 'cache', s.seqcache::text,
          'increment', s.seqincrement::text, 'cycle', s.seqcycle,
          'last', case when has_sequence_privilege(sc.oid, 'USAGE, SELECT') then pg_sequence_last_value(sc.oid)::text end))
        from pg_sequence s join pg_class sc on sc.oid = s.seqrelid join pg_namespace sn on sn.oid = sc.relnamespace
        where exists (select from pg_depend p where p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
            and p.refclassid = 'pg_class'::regclass and p.refobjid = s.seqrelid)
          or exists (select from pg_depend p where p.classid = 'pg_class'::regclass and p.objid = s.seqrelid
            and p.refclassid = 'pg_class'::regclass and p.refobjid = a.attrelid and p.refobjsubid = a.attnum
            and p.deptype = 'i')), '[]') as sequences
    from unnest(${tables}::oid[]) with ordinality as w(oid, place)
    join pg_attribute a on a.attrelid = w.oid and a.attname = ${column} and not a.attisdropped
    join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated = ''
    order by w.place`)
}

const clocks = [
  ...['now()', 'clock_timestamp()', 'statement_timestamp()', 'transaction_timestamp()'],
  ...['current_timestamp', 'localtimestamp', 'current_date'],
]

/** Whether a default is the server's clock and nothing else: one that adds or takes an interval is not. */
export function isServerClock(expression: string): boolean {
  const casts = /::(timestamp(tz)?(\(\d\))?( with(out)? time zone)?|timestamp\(\d\) with(out)? time zone|date)$/
  let rest = expression.trim().toLowerCase()
  for (;;) {
    const bare = unwrapped(rest)
      .replace(casts, '')
      .replace(/ at time zone '[^']*'(::text)?$/, '')
      .replace(/^timezone\('[^']*'(::text)?, (.*)\)$/, '$2')
      .trim()
    if (bare === rest) break
    rest = bare
  }
  return clocks.includes(rest.replace(/\(\d\)$/, ''))
}

/** The zone whose local time a default of the server's clock writes; undefined where that is the writer's own. */
function namedZone(expression: string): string | undefined {
  return / at time zone '([^']*)'/i.exec(expression)?.[1] ?? /\btimezone\('([^']*)'/i.exec(expression)?.[1]
}

/** Zones whose local times the column may get: `own` where somebody says so, and where a default names none. */
export function zonesOf(defaults: readonly ControlDefault[], own: string, isGiven: boolean): string[] {
  const clocked = defaults.filter(({ expression }) => expression !== null && isServerClock(expression))
  const named = clocked.map(({ expression }) => namedZone(expression ?? ''))
  const found = new Set(named.map((zone) => zone ?? own))
  if (isGiven || clocked.length < defaults.length || found.size === 0) found.add(own)
  return [...found]
}

/** Without the parentheses around it, where they belong together. */
function unwrapped(text: string): string {
  if (!text.startsWith('(') || !text.endsWith(')')) return text
  let depth = 0
  for (const [index, letter] of [...text].entries()) {
    depth += letter === '(' ? 1 : letter === ')' ? -1 : 0
    if (depth === 0 && index < text.length - 1) return text
  }
  return text.slice(1, -1)
}

/** Why the values do not come from this server; undefined where nothing says so. */
export function findOrigin(defaults: readonly ControlDefault[]): string | undefined {
  const fed = defaults.find((one) => one.isSubscribed)
  return fed && `a subscription writes to ${fed.table}, with values of another server`
}

/** Why nothing says that the server's clock fills the column; undefined where its default or a trigger does. */
export function findUnproven(defaults: readonly ControlDefault[]): string | undefined {
  const bare = defaults.find((one) => !one.hasTrigger && !(one.expression !== null && isServerClock(one.expression)))
  if (!bare) return undefined
  const has = bare.expression === null ? 'has no default' : `has the default ${bare.expression}`
  return `the control column of ${bare.table} ${has}, so that it is unproven that the server's clock fills it: rows that writers date back by themselves are missed`
}

/** Why values do not come in the order in which they are taken; undefined where they do. */
export function findSerialDoubt(defaults: readonly ControlDefault[]): string | undefined {
  const strange = defaults.find((one) => one.sequences.length !== 1 || !isPlainSequence(one))
  if (strange || defaults.length === 0) {
    const table = strange ? ` of ${strange.table}` : ''
    return `the control column${table} is not filled by one sequence alone`
  }
  const all = new Map(defaults.flatMap((one) => one.sequences.map((found) => [displayQualified(found), found])))
  if (all.size > 1) return `several sequences fill the control column: ${[...all.keys()].join(', ')}`
  for (const [name, { cache, increment, cycle }] of all) {
    if (cache !== '1') return `sessions take ${cache} numbers of ${name} at once (ALTER SEQUENCE ${name} CACHE 1)`
    if (increment.startsWith('-')) return `${name} counts down`
    if (cycle) return `${name} begins anew when it is used up (CYCLE)`
  }
  return undefined
}

function isPlainSequence({ isIdentity, expression }: ControlDefault): boolean {
  return isIdentity || (expression !== null && /^\(?nextval\('([^']|'')*'::regclass\)\)?(::\w+)?$/.test(expression))
}

/** What people should know where a sequence stands below what was copied: the numbers it gives out next never come. */
export function findRestart(defaults: readonly ControlDefault[], mark: string): string | undefined {
  const reached = wholePart(mark)
  const below = defaults
    .flatMap((one) => one.sequences)
    .find(({ last }) => last !== null && reached !== undefined && BigInt(last) < BigInt(reached))
  return (
    below &&
    `The sequence ${displayQualified(below)} stands at ${below.last}, below the position ${mark}: it was set back, and rows with its next numbers are not copied. Copy everything anew, or set it past ${mark}.`
  )
}

/** Whether `findRestart` can tell: somebody lets us see where every sequence stands. */
export function seesSequences(defaults: readonly ControlDefault[], mark: string): boolean {
  const all = defaults.flatMap((one) => one.sequences)
  return all.length > 0 && all.every(({ last }) => last !== null) && wholePart(mark) !== undefined
}

/** Of a number as the source prints it; undefined for one with an exponent. */
function wholePart(number: string): string | undefined {
  return /^(-?\d+)(\.\d+)?$/.exec(number)?.[1]
}
