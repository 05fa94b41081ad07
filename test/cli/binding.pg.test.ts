import { writeFileSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'
import { type BindingDesk, openBindingDesk } from './binding-desk.ts'

let desk: BindingDesk

beforeEach(async () => {
  desk = await openBindingDesk('binding')
})

const changesOf = (json: { changes: { op: string; site: string; host: string; before: string; after: string }[] }) =>
  json.changes.map(({ op, site, host, before, after }) => [op, site, host, before, after])

describe('binding apply', () => {
  it('makes the file all bindings there are, and prints what that changes, with its effects', async () => {
    await desk.up('h1', 'h2')
    await desk.done('binding', 'apply', desk.file(['CEO,h1,prefer', 'QA,h1,forbid', 'Marketing,h2,allow']))
    const path = desk.file(['CEO,h2,prefer', 'QA,h1,prefer', 'Sales,h3,forbid', 'Z,h3,allow', '"",h1,allow'])
    const { out, err } = await desk.done('binding', 'apply', path)
    expect(out.split('\n')).toEqual([
      '+ create   ~ change   - delete',
      '+ default site on h1: allow',
      '- CEO on h1: prefer',
      '+ CEO on h2: prefer',
      '    site CEO moves h1 → h2',
      '- Marketing on h2: allow',
      '~ QA on h1: forbid → prefer',
      '    site QA moves h2 → h1',
      '+ Sales on h3: forbid',
      '    no worker was ever seen on h3; did you mean h1?',
      '+ Z on h3: allow',
      'Plan: 4 to create, 1 to change, 0 to replace, 2 to delete.',
      '',
    ])
    expect(err).toBe('')
    expect(await desk.bound()).toEqual([' h1 allow', 'CEO h2 prefer', 'QA h1 prefer', 'Sales h3 forbid', 'Z h3 allow'])
    const again = await desk.done('binding', 'apply', path)
    expect([again.out, again.err]).toEqual(['No changes.\n', ''])
    const { json } = await desk.done('binding', 'apply', path, '--json')
    expect(json).toEqual({ applied: true, changes: [], shifts: [], unknown_hosts: [], refusals: [] })
  })

  it('with --dry-run shows the same and writes nothing, not even who asked', async () => {
    const state = async () => {
      const [row] = await desk.control.query(`select (select count(*) from yardmaster.audit) as audit,
        (select count(*) from yardmaster.site) as sites, (select count(*) from yardmaster.binding) as bindings`)
      return row
    }
    const before = await state()
    const path = desk.file(['CEO,h1,prefer'])
    const { out, err } = await desk.done('binding', 'apply', path, '--dry-run')
    expect(out).toContain('+ CEO on h1: prefer\n')
    expect(err).toBe('A dry run: nothing was written.\n')
    expect(await state()).toEqual(before)
    const { json } = await desk.done('binding', 'apply', path, '--dry-run', '--json')
    expect(json.applied).toBe(false)
    expect(changesOf(json)).toEqual([['create', 'CEO', 'h1', null, 'prefer']])
    expect(changesOf((await desk.done('binding', 'apply', path, '--json')).json)).toEqual(changesOf(json))
  })

  it('refuses a file that leaves a site without a host, and does it when it is forced', async () => {
    await desk.up('h1', 'h2')
    await desk.done('binding', 'apply', desk.file(['QA,h1,prefer']))
    const path = desk.file(['CEO,h1,forbid', 'CEO,h2,forbid', 'QA,h2,prefer'])
    for (const more of [[], ['--dry-run'], ['--dry-run', '--force']]) {
      const { code, out, err } = await desk.run('binding', 'apply', path, ...more)
      expect(out).toContain(
        '! No known host could run CEO then: every one forbids it, and its work would wait for ever.\n',
      )
      expect(out).toContain(more.includes('--force') ? '! forced\n' : '! refused\n')
      expect(code, more.join(' ')).toBe(more.includes('--force') ? 0 : 1)
      if (!more.includes('--force'))
        expect(err).toMatch(/^Error \[site_stranded\] .*CEO.*Nothing was changed\.\nRemedy: .*CEO on h1, .*--force/)
      expect(await desk.bound()).toEqual(['QA h1 prefer'])
    }
    const refused = await desk.run('binding', 'apply', path, '--json')
    expect(refused.code).toBe(1)
    expect(refused.json).toMatchObject({
      applied: false,
      refusals: [{ code: 'site_stranded', sites: ['CEO'] }],
      error: { code: 'site_stranded' },
    })
    expect((await desk.done('binding', 'apply', path, '--force')).out).toMatch(/^\+ create .* ! forced\n/)
    expect(await desk.bound()).toEqual(['CEO h1 forbid', 'CEO h2 forbid', 'QA h2 prefer'])
    // What is so already is no new refusal.
    await desk.done('binding', 'apply', desk.file(['CEO,h1,forbid', 'CEO,h2,forbid']))
  })

  it('names all bad lines of a file at once, and applies none of it', async () => {
    await desk.done('host', 'set', 'h7', '--address', '10.0.0.7')
    await desk.done('binding', 'apply', desk.file(['CEO,h1,prefer']))
    const path = desk.file([
      'QA,h7,prefer',
      'QA,10.0.0.7,forbid',
      'QA,=cmd,allow',
      'CEO,h1,forbit',
      'x,h 1,allow',
      'ok,h1,allow',
    ])
    const { code, err } = await desk.run('binding', 'apply', path)
    expect(code).toBe(1)
    const lines = err.split('\n').slice(1, 5)
    expect(err).toContain(`Error [bindings_invalid] ${path}: 4 lines cannot be used; nothing was applied.\n`)
    expect(lines.map((line) => line.slice(path.length))).toEqual([
      ":3: found a second row for 'QA' on h7; the first stands on line 2, one host that is named 'h7' there and '10.0.0.7' here; expected one row for each site and host",
      ":4: found the host '=cmd'; expected a host's name or address, but it begins with = + - or @",
      ":5: found the binding 'forbit'; expected prefer, allow or forbid: did you mean forbid?",
      ":6: found the host 'h 1'; expected a host's name or address, but it has spaces, commas, semicolons, quotes or characters that can't be seen",
    ])
    const { json } = await desk.run('binding', 'apply', path, '--json')
    expect(json.error.errors.map((one: { line: number }) => one.line)).toEqual([3, 4, 5, 6])
    expect(await desk.bound()).toEqual(['CEO h1 prefer'])
    expect((await desk.run('binding', 'apply', `${path}.gone`)).err).toContain('cannot be read: there is no such file.')
    expect((await desk.run('binding', 'apply', '/')).err).toContain('cannot be read: it is a folder.')
  })

  it('takes an address for the host that has it', async () => {
    await desk.done('host', 'set', 'h7', '--address', '10.0.0.7')
    await desk.done('binding', 'apply', desk.file(['CEO,10.0.0.7,prefer']))
    expect(await desk.bound()).toEqual(['CEO h7 prefer'])
    expect((await desk.done('binding', 'apply', desk.file(['CEO,h7,prefer']))).out).toBe('No changes.\n')
  })

  it('on a terminal asks for the name of what --force leaves without a host', async () => {
    await desk.up('h1')
    const path = desk.file(['CEO,h1,forbid'])
    const terminal = desk.terminal({ NO_COLOR: '1' })
    const wrong = terminal.run('binding', 'apply', path, '--force')
    await terminal.asked('Type CEO to go on')
    // Whoever answers has the whole plan before him, and it is not told twice.
    expect(terminal.out).toMatch(/! forced\n\+ CEO on h1: forbid\n[\s\S]*\nPlan: 1 to create, .*\n$/)
    terminal.type('QA\r')
    expect(await wrong).toBe(1)
    expect(await desk.bound()).toEqual([])
    const right = desk.terminal()
    const done = right.run('binding', 'apply', path, '--force')
    await right.asked('Type CEO to go on')
    right.type('CEO\r')
    expect(await done).toBe(0)
    expect(right.out.match(/Plan:/g)).toHaveLength(1)
    expect(right.err).toContain('Done as shown above.')
    expect(await desk.bound()).toEqual(['CEO h1 forbid'])
    expect(await desk.terminal().run('binding', 'undo')).toBe(0)
    expect(await desk.terminal().run('binding', 'apply', path, '--force', '--yes')).toBe(0)
    // Nothing is asked where nothing is stranded.
    expect(await desk.terminal().run('binding', 'apply', desk.file(['CEO,h1,prefer']), '--force')).toBe(0)
  })
})

describe('binding set', () => {
  it('binds one pair, and takes its binding away', async () => {
    await desk.up('h1', 'h2')
    expect((await desk.done('binding', 'set', 'CEO', 'h1', 'prefer')).out).toContain(
      '+ CEO on h1: prefer\n    site CEO moves h1, h2 → h1\n',
    )
    expect((await desk.done('binding', 'set', 'CEO', 'h1', 'forbid')).out).toContain('~ CEO on h1: prefer → forbid')
    expect((await desk.done('binding', 'set', 'CEO', 'h1', 'forbid')).out).toBe('No changes.\n')
    await desk.done('binding', 'set', '', 'h2', 'allow')
    expect(await desk.bound()).toEqual([' h2 allow', 'CEO h1 forbid'])
    const refused = await desk.run('binding', 'set', 'CEO', 'h2', 'forbid')
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('Error [site_stranded]')])
    expect(await desk.bound()).toEqual([' h2 allow', 'CEO h1 forbid'])
    await desk.done('binding', 'set', 'CEO', 'h2', 'forbid', '--force')
    expect((await desk.done('binding', 'set', 'CEO', 'h1', 'none')).out).toContain('- CEO on h1: forbid')
    expect((await desk.done('binding', 'set', '', 'h2', 'none', '--json')).json.changes).toHaveLength(1)
    expect(await desk.bound()).toEqual(['CEO h2 forbid'])
  })

  it('says what is wrong with its arguments', async () => {
    const wrong = await desk.run('binding', 'set', 'CEO', 'h1', 'perfer')
    expect([wrong.code, wrong.err]).toEqual([
      2,
      expect.stringContaining("'perfer' is not a binding; did you mean prefer?"),
    ])
    const host = await desk.run('binding', 'set', 'CEO', '=h1', 'prefer')
    expect([host.code, host.err]).toEqual([
      2,
      expect.stringContaining("A host cannot be called '=h1': it begins with = + - or @."),
    ])
    const site = await desk.run('binding', 'set', 's'.repeat(201), 'h1', 'prefer')
    expect([site.code, site.err]).toEqual([2, expect.stringContaining('200 bytes at most')])
  })
})

describe('binding list, history and undo', () => {
  it('say what is bound, who changed what, and take changes back one by one', async () => {
    const empty = await desk.done('binding', 'list')
    expect([empty.out, empty.err]).toEqual(['', expect.stringContaining('No binding yet')])
    expect((await desk.run('binding', 'undo', '--json')).json.error.code).toBe('nothing_to_undo')
    await desk.up('h1')
    await desk.done('binding', 'apply', desk.file(['CEO,h1,prefer', 'CEO,h9,allow']))
    await desk.done('binding', 'set', 'CEO', 'h1', 'allow')
    expect((await desk.done('binding', 'list', '--json')).json).toEqual([
      { site: 'CEO', host: 'h1', binding: 'allow', active: true, drained: false, known: true },
      { site: 'CEO', host: 'h9', binding: 'allow', active: false, drained: false, known: false },
    ])
    expect((await desk.done('binding', 'list')).out).toBe(
      'SITE\tHOST\tBINDING\tHOST IS\nCEO\th1\tallow\tactive\nCEO\th9\tallow\tnever seen\n',
    )
    const first = await desk.done('binding', 'undo')
    expect(first.out).toContain('~ CEO on h1: allow → prefer')
    expect(first.err).toMatch(/^Change \d+ was taken back\.\n$/)
    expect(await desk.bound()).toEqual(['CEO h1 prefer', 'CEO h9 allow'])
    expect((await desk.done('binding', 'undo', '--json')).json).toMatchObject({
      applied: true,
      undoes: expect.any(String),
    })
    expect(await desk.bound()).toEqual([])
    expect((await desk.run('binding', 'undo')).err).toContain('Error [nothing_to_undo]')
    const { json } = await desk.done('binding', 'history', '--json')
    expect(json).toHaveLength(4)
    expect(json[0]).toMatchObject({ undoes: json[3].id, undone_by: null, face: 'CLI', forced: false })
    expect(json[3]).toMatchObject({
      undone_by: json[0].id,
      changes: [
        { site: 'CEO', host: 'h1', before: null, after: 'prefer' },
        { site: 'CEO', host: 'h9', before: null, after: 'allow' },
      ],
    })
    expect((await desk.done('binding', 'history', '--limit', '1', '--json')).json).toEqual([json[0]])
    const { out } = await desk.done('binding', 'history')
    expect(out.split('\n')).toHaveLength(8)
    expect(out).toMatch(/\tCEO\th1\tprefer\tallow\ttaken back by \d+\n/)
    expect((await desk.run('binding', 'history', '--limit', 'all')).code).toBe(2)
  })

  it('an undo that would leave a site without a host is refused unless it is forced', async () => {
    await desk.up('h1')
    await desk.done('binding', 'set', 'CEO', 'h1', 'forbid', '--force')
    await desk.done('binding', 'set', 'CEO', 'h1', 'prefer')
    const refused = await desk.run('binding', 'undo')
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('Error [site_stranded]')])
    expect(await desk.bound()).toEqual(['CEO h1 prefer'])
    await desk.done('binding', 'undo', '--force')
    expect(await desk.bound()).toEqual(['CEO h1 forbid'])
  })
})

describe('names from files and people', () => {
  it('act on no terminal, and stand on one line', async () => {
    const path = desk.file('site,host,binding\n"a\n\u001b[31mb",h1,prefer\n')
    expect((await desk.done('binding', 'apply', path)).out).toContain('+ a\\u{a}\\u{1b}[31mb on h1: prefer\n')
    writeFileSync(path, 'site,host,binding\nx,h\u001b[2J,perfer\n')
    expect((await desk.run('binding', 'apply', path)).err).not.toContain('\u001b')
  })
})
