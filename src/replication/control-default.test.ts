import { describe, expect, test } from 'vitest'
import {
  type ControlDefault,
  type FeedingSequence,
  findRestart,
  findSerialDoubt,
  findUnproven,
  isServerClock,
} from './control-default.ts'

describe('the server’s clock', () => {
  test.each([
    'now()',
    'CURRENT_TIMESTAMP',
    'CURRENT_TIMESTAMP(3)',
    'LOCALTIMESTAMP',
    'CURRENT_DATE',
    'clock_timestamp()',
    'statement_timestamp()',
    'transaction_timestamp()',
    "(now() AT TIME ZONE 'utc'::text)",
    "timezone('utc'::text, now())",
    '(now())::timestamp without time zone',
    '(clock_timestamp())::timestamp(3) without time zone',
    "((now() AT TIME ZONE 'Europe/Berlin'::text))::date",
  ])('is %s', (expression) => {
    expect(isServerClock(expression)).toBe(true)
  })

  test.each([
    "(now() - '01:00:00'::interval)",
    "date_trunc('day'::text, now())",
    "'2020-01-01 00:00:00+00'::timestamp with time zone",
    'COALESCE(NULL::timestamp with time zone, now())',
    'app.now()',
    '(now()) - (now())',
    'NULL::timestamp with time zone',
    '',
  ])('is not %s', (expression) => {
    expect(isServerClock(expression)).toBe(false)
  })
})

const sequence = (changes: Partial<FeedingSequence> = {}): FeedingSequence => ({
  ...{ schema: 'public', name: 'orders_id_seq', cache: '1', increment: '1', cycle: false, last: null },
  ...changes,
})
const column = (changes: Partial<ControlDefault> = {}): ControlDefault => ({
  ...{ table: 'public.orders', expression: "nextval('public.orders_id_seq'::regclass)", isIdentity: false },
  ...{ hasTrigger: false, isSubscribed: false, sequences: [sequence()] },
  ...changes,
})

describe('by time', () => {
  test('a default or a trigger proves it, for every leaf', () => {
    expect(findUnproven([column({ expression: 'now()' })])).toBeUndefined()
    expect(findUnproven([column({ expression: null, hasTrigger: true })])).toBeUndefined()
    expect(findUnproven([column({ expression: null })])).toContain('public.orders has no default')
    expect(findUnproven([column({ expression: 'app.now()' })])).toContain('public.orders has the default app.now()')
    const leaf = column({ table: 'public.orders_2026', expression: null })
    expect(findUnproven([column({ expression: 'now()' }), leaf])).toContain('public.orders_2026')
  })
})

describe('by serial', () => {
  test.each<[string, Partial<ControlDefault>]>([
    ['serial', {}],
    ['identity', { expression: null, isIdentity: true }],
    ['a cast', { expression: "(nextval('public.orders_id_seq'::regclass))::integer" }],
    ['an odd name', { expression: `nextval('"It''s"'::regclass)` }],
  ])('%s is as good as can be', (_, changes) => {
    expect(findSerialDoubt([column(changes)])).toBeUndefined()
  })

  test.each<[string, ControlDefault[], string]>([
    ['no column', [], 'not filled by one sequence alone'],
    ['no default', [column({ expression: null, sequences: [] })], 'of public.orders is not filled by one sequence'],
    ['a function', [column({ expression: 'app.next()', sequences: [] })], 'not filled by one sequence'],
    [
      'something beside',
      [column({ expression: "(- nextval('public.orders_id_seq'::regclass))" })],
      'not filled by one',
    ],
    [
      'a cache',
      [column({ sequences: [sequence({ cache: '20' })] })],
      'sessions take 20 numbers of public.orders_id_seq',
    ],
    ['counting down', [column({ sequences: [sequence({ increment: '-1' })] })], 'counts down'],
    ['a cycle', [column({ sequences: [sequence({ cycle: true })] })], 'CYCLE'],
    [
      'a leaf with a sequence of its own',
      [column(), column({ table: 'public.leaf', sequences: [sequence({ name: 'leaf_id_seq' })] })],
      'several sequences',
    ],
    [
      'a leaf without one',
      [column(), column({ table: 'public.leaf', expression: null, sequences: [] })],
      'of public.leaf',
    ],
  ])('%s is refused', (_, defaults, why) => {
    expect(findSerialDoubt(defaults)).toContain(why)
  })

  test('a sequence below the position was set back', () => {
    expect(findRestart([column({ sequences: [sequence({ last: '9' })] })], '10')).toContain('stands at 9')
    expect(findRestart([column({ sequences: [sequence({ last: '10' })] })], '10')).toBeUndefined()
    expect(findRestart([column()], '10')).toBeUndefined()
    expect(
      findRestart([column({ sequences: [sequence({ last: '9007199254740993' })] })], '9007199254740992'),
    ).toBeUndefined()
  })
})
