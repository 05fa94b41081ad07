import { describe, expect, it } from 'vitest'
import { FakeTerminal } from './fake-terminal.ts'

const serial = ['--column', 'id', '--by', 'serial']
const time = ['--column', 'changed_at', '--by', 'time']

/** A command line that nothing may be connected to for. */
async function run(...args: string[]) {
  const terminal = new FakeTerminal({ terminal: false, environment: { YARDMASTER_CONTROL_URL: 'unused' } })
  const code = await terminal.run(...args)
  return { code, out: terminal.out, err: terminal.err }
}

describe('wrong usage', () => {
  it.each([
    [['databse', 'list'], "Unknown command 'databse'; did you mean database?"],
    [['database', 'lst'], "Unknown command 'lst'; did you mean list?"],
    [['database', 'list', '--jsn'], "Unknown option '--jsn'; did you mean --json?"],
    [['database', 'add'], "Missing required argument 'name'."],
    [['database', 'list', 'x'], "Too many arguments for 'list'."],
    [['run', 'list', '--limit'], "Option '--limit <n>' argument missing."],
    [['run', 'list', '--limit', 'many'], "--limit is 'many'"],
    [['run', 'list', '--status', 'good'], "'good' is not a status of a run."],
    [['replication', 'add', 'snapshot', 'a.b'], "Required option '--from <database>' not specified."],
    [['replication', 'add', 'tabel', 'a.b', '--from', 'x', '--to', 'y'], "did you mean 'table'?"],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--swap-wait', 'soon'],
      "--swap-wait is 'soon', which is not an interval.",
    ],
    [
      ['replication', 'add', 'snapshot', 'a.b', '--from', 'x', '--to', 'y', '--truncate-cascade'],
      'has no meaning for the type snapshot',
    ],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--every', '10 minuets'],
      "'10 minuets' is not an interval: did you mean minutes?",
    ],
    [['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--every', ''], "--every is ''; it is empty."],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--every', '0'],
      "The interval '00:00:00' is not longer than nothing.",
    ],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--every', '1 month 2 hours'],
      "The interval '1 mon 02:00:00' has months and also days or time",
    ],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--every', '1h', '--cron', '@daily'],
      "A schedule is --every or --cron, not both; these are '1h' and '@daily'.",
    ],
    [['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--cron', '61 * * * *'], '61'],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--cron', '0 0 30 2 *'],
      'names a day that never comes',
    ],
    [
      [
        'replication',
        'add',
        'table',
        'a.b',
        '--from',
        'x',
        '--to',
        'y',
        '--cron',
        '@daily',
        '--timezone',
        'Europe/Pariss',
      ],
      "There is no time zone 'Europe/Pariss'; did you mean Europe/Paris?",
    ],
    [['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--lag-target', '0'], 'longer than nothing'],
    [['replication', 'add', 'inserter', 'a.b', '--from', 'x', '--to', 'y'], 'The type inserter needs --column'],
    [
      ['replication', 'add', 'inserter', 'a.b', '--from', 'x', '--to', 'y', '--column', 'c'],
      'needs --by, time or serial',
    ],
    [
      [...['replication', 'add', 'inserter', 'a.b', '--from', 'x', '--to', 'y'], ...serial, '--boundary', '10 minutes'],
      "--boundary is '10 minutes'; with --by serial it must be auto or a whole number.",
    ],
    [
      [...['replication', 'add', 'updater', 'a.b', '--from', 'x', '--to', 'y'], ...time, '--boundary', 'often'],
      "'often' is not an interval",
    ],
    [
      [...['replication', 'add', 'updater', 'a.b', '--from', 'x', '--to', 'y'], ...time, '--control-timezone', 'Mars'],
      "There is no time zone 'Mars'",
    ],
    [
      ['replication', 'add', 'table', 'a.b', '--from', 'x', '--to', 'y', '--boundary', '5'],
      '--boundary has no meaning for the type table; it is for inserter, updater.',
    ],
    [['replication', 'refresh', 'a.b', '--limit', '-5'], "--limit is '-5'; it must be a whole number above 0."],
    [['replication', 'refresh', 'a.b', '--limit', '1e3'], "--limit is '1e3'; it must be a whole number above 0."],
    [['replication', 'refresh', 'a.b', '--start', '5'], '--start says which rows are copied again'],
    [['replication', 'refresh', 'a.b', '--end', '5', '--force'], '--end says which rows are copied again'],
    [['replication', 'refresh', 'a.b', '--repull', '--start', ''], '--start is empty'],
    [['replication', 'refresh', 'a.b', '--wait', 'never'], "--wait is 'never', which is not an interval."],
    [
      ['database', 'prepare', 'a', 'b.c', '--for', 'inserters'],
      "'inserters' is not a type of replication; did you mean 'inserter'?",
    ],
    [['worker', '--grace', '-5s'], "--grace is '-5s', which is not an interval."],
    [
      ['replication', 'set', 'a.b', 'column=id'],
      "'column' is decided when a replication is added, and cannot be changed.",
    ],
    [['replication', 'set', 'a.b', 'evry=5 minutes'], "A replication has no option 'evry'; did you mean 'every'?"],
    [['replication', 'set', 'a.b', 'no-index='], "--no-index is ''"],
    [['replication', 'set', 'a.b', 'every'], "'every' is not key=value."],
    [['run-due', '--max', '0'], "--max is '0'; it must be a whole number from 1 to 1000000."],
    [['run-due', '--parallel', '1.5'], "--parallel is '1.5'; it must be a whole number from 1 to 100."],
    [['run-due', '--type', 'dml'], "'dml' is not a type of replication."],
    [['replication', 'add', 'snapshot', 'b', '--from', 'x', '--to', 'y'], "'b' is not a schema-qualified name."],
    [
      ['--log-level', 'loud', 'run', 'list'],
      "--log-level is 'loud'; it must be one of debug, info, warn, error, silent.",
    ],
    [['--streams', '0', 'run', 'list'], "--streams is '0'; it must be a whole number from 1 to 32."],
    [['help', 'databse'], "There is no help on 'databse'; did you mean 'database'?"],
    [['help', 'error', 'disk_ful'], "There is no error code 'disk_ful'; did you mean 'disk_full'?"],
  ])('%j: exit 2, %s', async (args, message) => {
    const plain = await run(...args)
    expect(plain.code).toBe(2)
    expect(plain.out).toBe('')
    expect(plain.err).toContain(message)
    expect(plain.err).toMatch(/^Error \[[a-z_]+\] .+\nRemedy: .+\nMore: yardmaster help error [a-z_]+\n$/)
    const json = await run(...args, '--json')
    expect(json.code).toBe(2)
    expect(json.err).toBe('')
    const { error } = JSON.parse(json.out) as { error: Record<string, string> }
    expect(Object.keys(error)).toEqual(['code', 'message', 'object', 'remedy'])
    expect(error.message).toContain(message)
  })

  it('in a variable names the variable', async () => {
    const terminal = new FakeTerminal({ environment: { YARDMASTER_STREAMS: 'many' } })
    expect(await terminal.run('run', 'list')).toBe(2)
    expect(terminal.err).toContain("YARDMASTER_STREAMS is 'many'")
  })

  it('shows no password, wherever the URL stands', async () => {
    const url = 'postgresql://u:se/cr@et@h:5432/d'
    for (const args of [
      ['database', 'list', `--contorl=${url}`],
      ['database', 'add', 'a', url, url],
      ['help', url],
    ]) {
      for (const more of [[], ['--json'], ['--log-level', 'debug']]) {
        const { code, out, err } = await run(...args, ...more)
        expect(code).toBe(2)
        expect(out + err).toContain('postgresql://u:…@h')
        expect(out + err).not.toMatch(/se\/cr|et@/)
      }
    }
  })
})

describe('check, whose every failure is UNKNOWN', () => {
  it.each([
    [['check', '--jobs', 'x'], "Unknown option '--jobs'"],
    [['check', 'everything'], "Too many arguments for 'check'."],
    [['--streams', 'many', 'check'], "--streams is 'many'"],
    [['check', '--log-level', 'loud'], "--log-level is 'loud'"],
    [['--jsn', 'check'], "Unknown option '--jsn'"],
    [['check', '--control', 'postgresql://u:secret@127.0.0.1:1/d'], '[control_unreachable]'],
  ])('%j: exit 3, one line, %s', async (args, message) => {
    const plain = await run(...args)
    expect(plain.code).toBe(3)
    expect(plain.out).toMatch(/^UNKNOWN - [^\n]+\n$/)
    expect(plain.out).toContain(message)
    const json = await run(...args, '--json')
    expect([json.code, json.err]).toEqual([3, ''])
    expect(JSON.parse(json.out)).toMatchObject({ level: 3, alerts: [], error: { code: expect.any(String) } })
    expect(plain.out + plain.err + json.out).not.toContain('secret')
  })
})

describe('help', () => {
  it('is what yardmaster alone and a group alone show, on stderr, with exit 2', async () => {
    for (const [args, word] of [
      [[], 'replication'],
      [['database'], 'prepare'],
    ] as const) {
      const { code, out, err } = await run(...args)
      expect([code, out]).toEqual([2, ''])
      expect(err).toMatch(/^Usage: yardmaster/)
      expect(err).toContain(word)
      expect(err).not.toContain('Error')
    }
  })

  it('is an error without a command under --json', async () => {
    const { code, out, err } = await run('--json')
    expect([code, err]).toEqual([2, ''])
    expect(JSON.parse(out)).toMatchObject({ error: { code: 'wrong_usage', message: 'No command was named.' } })
  })

  it.each([['--help'], ['help'], ['database', 'add', '--help'], ['help', 'replication'], ['help', 'error']])(
    'asked for by %s %s %s goes to stdout, with exit 0',
    async (...args) => {
      const { code, out, err } = await run(...args)
      expect([code, err]).toEqual([0, ''])
      expect(out.length).toBeGreaterThan(200)
    },
  )

  it('on an error code says what it means and what to do', async () => {
    const plain = await run('help', 'error', 'disk_full')
    expect(plain.out).toMatch(/^disk_full\n {2}A server has no room/)
    const json = await run('help', 'error', 'disk_full', '--json')
    expect(JSON.parse(json.out)).toMatchObject({
      code: 'disk_full',
      meaning: expect.any(String),
      remedy: expect.any(String),
    })
  })

  it('--version is that of the package', async () => {
    expect(await run('--version')).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), err: '' })
  })
})
