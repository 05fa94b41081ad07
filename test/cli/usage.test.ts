import { describe, expect, it } from 'vitest'
import { FakeTerminal } from './fake-terminal.ts'

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
      "'soon' is not an interval.",
    ],
    [
      ['replication', 'add', 'snapshot', 'a.b', '--from', 'x', '--to', 'y', '--truncate-cascade'],
      'has no meaning for the type snapshot',
    ],
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
