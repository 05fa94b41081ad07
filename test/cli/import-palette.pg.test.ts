import { rmSync, writeFileSync } from 'node:fs'
import pg from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { createDatabase, postgres14, type TestDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'
import { installPalette, serverFile } from './palette-installation.ts'

let control: TestDatabase

beforeEach(async () => {
  control = await createDatabase('import control')
})

/** Runs a command in a pipe. */
async function run(...args: string[]) {
  const terminal = new FakeTerminal({
    terminal: false,
    environment: { YARDMASTER_CONTROL_URL: control.url, YARDMASTER_KEY: '5e'.repeat(32) },
  })
  const code = await terminal.run(...args)
  return { code, out: terminal.out, err: terminal.err }
}

async function done(...args: string[]) {
  const ran = await run(...args)
  expect(ran.code, `${args.join(' ')}\n${ran.out}${ran.err}`).toBe(0)
  return ran
}

/** `site host binding`, in order. */
async function bindings(): Promise<string[]> {
  const rows = await control.query(
    `select site, host, binding from yardmaster.bindings order by site collate "C", host collate "C"`,
  )
  return rows.map(({ site, host, binding }) => `${site} ${host} ${binding}`)
}

/** An installation that reads these lines, registered as `workgroup`. */
async function install(lines: string[], where: TestDatabase | undefined = undefined) {
  const workgroup = where ?? (await createDatabase('workgroup'))
  const file = serverFile(['site,host,binding', ...lines, ''].join('\n'))
  await installPalette(workgroup, file)
  await done('database', 'add', 'workgroup', workgroup.url)
  return { workgroup, file }
}

/** A table or view in the place of the foreign table. */
async function replaceTable(workgroup: TestDatabase, definition: string): Promise<void> {
  await workgroup.query('drop foreign table palette.worker_binding cascade')
  await workgroup.query(`create ${definition}`)
}

const importDatabase = ['import', 'palette', '--database', 'workgroup']
const fourLines = [
  'Marketing,10.0.0.189,prefer',
  'QA,10.0.0.27,forbid',
  'QA,10.0.0.188,forbid',
  'Marketing,10.0.0.188,prefer',
]
const fourBindings = [
  'Marketing 10.0.0.188 prefer',
  'Marketing 10.0.0.189 prefer',
  'QA 10.0.0.188 forbid',
  'QA 10.0.0.27 forbid',
]

describe.each([18, 14])('an installation on PostgreSQL %i', (major) => {
  const create = async () =>
    major === 14 ? (await postgres14()).createDatabase('workgroup') : createDatabase('workgroup')

  it('becomes all bindings there are, and what is not taken over is said', async () => {
    await install(fourLines, await create())
    await done('binding', 'set', 'Other', 'h1', 'prefer')
    const first = await done(...importDatabase)
    expect(await bindings()).toEqual(fourBindings)
    expect(first.err).toContain('Not taken over, and left as it is: palette.background_jobs, palette.worker_binding_id')
    expect(first.err).toContain('the search_path of role backgrounder')
    const again = await done(...importDatabase)
    expect(again.out).toContain('No changes.')
  })

  it('is not changed, nor does a dry run change anything of ours', async () => {
    const { workgroup } = await install(fourLines, await create())
    const look = () =>
      workgroup.query(`select c.oid, c.relname, c.xmin::text from pg_class c where c.relnamespace in ('palette'::regnamespace, 'public'::regnamespace)
        union all select r.oid, r.rolname, r.xmin::text from pg_authid r where r.rolname = 'backgrounder' order by 1`)
    const before = await look()
    const dry = await done(...importDatabase, '--dry-run')
    expect(dry.out).toContain('Plan:')
    expect(await bindings()).toEqual([])
    await done(...importDatabase)
    expect(await look()).toEqual(before)
  })

  it('that cannot be read is refused with the words of its server, and nothing is imported', async () => {
    const { file } = await install(fourLines, await create())
    await done(...importDatabase)
    for (const [line, said] of [
      ['CEO,ceo.local,prefer', /"ceo\.local".*COPY worker_binding, line 3, column host/],
      ['CEO,10.0.0.1,avoid', /worker_binding_enum.*"avoid".*line 3, column binding/],
      ['CEO,10.0.0.1', /missing data for column "binding".*line 3/],
    ] as const) {
      writeFileSync(file, `site,host,binding\nCEO,10.0.0.2,prefer\n${line}\n`)
      const { code, err } = await run(...importDatabase, '--force')
      expect(code, err).toBe(1)
      expect(err).toMatch(/^Error \[sql_failed\].*nothing was imported/)
      expect(err).toMatch(said)
    }
    rmSync(file)
    const gone = await run(...importDatabase)
    expect(gone.code).toBe(1)
    expect(gone.err).toContain(`could not open file "${file}"`)
    expect(gone.err).toContain('58P01')
    expect(await bindings()).toEqual(fourBindings)
  })
})

describe('what is looked for and not there', () => {
  it('is named, with where it was looked for', async () => {
    const workgroup = await createDatabase('no palette')
    await done('database', 'add', 'workgroup', workgroup.url)
    const noSchema = await run(...importDatabase)
    expect(noSchema.code).toBe(1)
    expect(noSchema.err).toMatch(
      /Error \[table_unknown\] .*has no palette\.worker_binding: there is no schema palette\./,
    )
    expect(noSchema.err).toContain(workgroup.name)
    await workgroup.query('create schema palette')
    expect((await run(...importDatabase)).err).toContain('its schema palette has no such table')
    await workgroup.query('create table palette.worker_binding (site text, worker inet)')
    const columns = await run(...importDatabase)
    expect(columns.err).toContain('Error [column_unknown]')
    expect(columns.err).toContain('has no column host, binding; its columns are site, worker.')
  })

  it('is one of two places', async () => {
    for (const given of [[], ['--database', 'workgroup', '--csv', 'x.csv']]) {
      const { code, err } = await run('import', 'palette', ...given)
      expect(code).toBe(2)
      expect(err).toContain('Error [wrong_usage]')
    }
    expect((await run(...importDatabase)).err).toContain('Error [database_unknown]')
  })

  it('is the right to read: the remedy gives it', async () => {
    const { workgroup } = await install(fourLines)
    const role = `palette_reader_${process.pid}`
    await workgroup.query(`create role ${role} login password 'secret'`)
    await workgroup.query('revoke all on schema palette from public')
    await workgroup.query('revoke all on palette.worker_binding from public')
    const url = new URL(workgroup.url)
    url.username = role
    url.password = 'secret'
    await done('database', 'set', 'workgroup', '--url', url.href)
    const { code, err } = await run(...importDatabase)
    expect(code).toBe(1)
    expect(err).toContain('Error [permission_denied]')
    const [, statements = ''] = /As its owner: (.*)/.exec(err) ?? []
    for (const statement of statements.split('; ')) await workgroup.query(statement)
    await done(...importDatabase)
    expect(await bindings()).toEqual(fourBindings)
  })
})

describe('rows', () => {
  it('that cannot be a binding are all named, and nothing is imported', async () => {
    await install([
      'CEO,10.0.0.1,prefer',
      ',10.0.0.1,prefer',
      'CEO,,forbid',
      'CEO,10.0.0.2,',
      'CEO,10.0.0.0/24,forbid',
      'QA,10.0.0.1,prefer',
      'QA,10.0.0.1,forbid',
      `${'x'.repeat(201)},10.0.0.1,prefer`,
    ])
    const { code, err } = await run(...importDatabase, '--force')
    expect(code).toBe(1)
    expect(err).toContain('Error [bindings_invalid]')
    expect(err).toContain('6 rows cannot be taken over; nothing was imported')
    expect(err).toContain('row 2: found a site that is NULL; expected a site')
    expect(err).toContain('row 3: found a host that is NULL; expected a host')
    expect(err).toContain('row 4: found a binding that is NULL; expected prefer, allow or forbid')
    expect(err).toContain("row 5: found the network '10.0.0.0/24'; expected one host's address")
    expect(err).toContain("row 7: found forbid for 'QA' on 10.0.0.1, which row 6 binds as prefer")
    expect(err).toContain('row 8: found a site of 201 bytes; expected 200 at most')
    expect(await bindings()).toEqual([])
  })

  it('that say the same twice are taken once, and named', async () => {
    await install(['CEO,10.0.0.1,prefer', 'QA,10.0.0.1,allow', 'CEO,10.0.0.1/32,prefer'])
    const { err } = await done(...importDatabase)
    expect(err).toContain("row 3 says the same as row 1 (prefer for 'CEO' on 10.0.0.1): it is taken once.")
    expect(await bindings()).toEqual(['CEO 10.0.0.1 prefer', 'QA 10.0.0.1 allow'])
  })

  it('by an address of a known host are of that host, whichever of its addresses they name', async () => {
    const { file } = await install(['CEO,10.0.0.27,prefer', 'CEO,FD00::001B,prefer', 'QA,10.0.0.28,forbid'])
    await done('host', 'set', 'ceo.local', '--address', '10.0.0.27', '--address', 'fd00::1b')
    const { err } = await done(...importDatabase)
    expect(err).toContain("(prefer for 'CEO' on ceo.local, which is 10.0.0.27 and fd00::1b): it is taken once.")
    expect(await bindings()).toEqual(['CEO ceo.local prefer', 'QA 10.0.0.28 forbid'])
    writeFileSync(file, 'site,host,binding\nCEO,10.0.0.27,prefer\nCEO,fd00::1b,forbid\n')
    const contradicting = await run(...importDatabase)
    expect(contradicting.code).toBe(1)
    expect(contradicting.err).toContain(
      "row 2: found forbid for 'CEO' on ceo.local, which is 10.0.0.27 and fd00::1b, which row 1 binds as prefer",
    )
  })

  it('that strand a site are refused unless forced', async () => {
    await install(['CEO,10.0.0.1,forbid', 'CEO,10.0.0.2,forbid'])
    const { code, err } = await run(...importDatabase)
    expect(code).toBe(1)
    expect(err).toContain('Error [site_stranded]')
    expect(await bindings()).toEqual([])
    await done(...importDatabase, '--force', '--yes')
    expect(await bindings()).toHaveLength(2)
  })

  it('of sites that the queue does not know are imported, and named', async () => {
    await install(['CEO,10.0.0.1,prefer', 'Céo,10.0.0.1,prefer', '"",10.0.0.1,allow'])
    const { err } = await done(...importDatabase)
    expect(err).toContain("public._sites has no site '', 'Céo': there these bindings did nothing.")
    expect(await bindings()).toEqual([' 10.0.0.1 allow', 'CEO 10.0.0.1 prefer', 'Céo 10.0.0.1 prefer'])
  })
})

describe('an installation that somebody changed', () => {
  it.each([
    ['a table with texts', 'table palette.worker_binding as select * from (values'],
    ['a view', 'view palette.worker_binding as select * from (values'],
    ['a materialized view', 'materialized view palette.worker_binding as select * from (values'],
  ])('into %s is read all the same', async (_what, definition) => {
    const { workgroup } = await install([])
    await replaceTable(
      workgroup,
      `${definition} ('CEO'::text, 'ceo.local'::text, 'prefer'::text), ('QA', '10.0.0.27', 'forbid')) v(site, host, binding)`,
    )
    await done(...importDatabase)
    expect(await bindings()).toEqual(['CEO ceo.local prefer', 'QA 10.0.0.27 forbid'])
  })

  it('has values that no enum kept out: they are named', async () => {
    const { workgroup } = await install([])
    await replaceTable(
      workgroup,
      `table palette.worker_binding as select * from (values ('CEO', 'a b', 'prefer'), ('CEO', 'c', 'Prefer')) v(site, host, binding)`,
    )
    const { code, err } = await run(...importDatabase)
    expect(code).toBe(1)
    expect(err).toContain("row 1: found the host 'a b'; expected a host's name or address, but it has spaces")
    expect(err).toContain("row 2: found the binding 'Prefer'; expected prefer, allow or forbid")
  })

  it('in another encoding gives the letters that it holds', async () => {
    const name = `t_latin1_${process.pid}`
    const server = await createDatabase('latin1 maker')
    await server.query(`create database ${name} template template0 encoding 'LATIN1' locale 'C'`)
    const url = new URL(server.url)
    url.pathname = `/${name}`
    const latin = new pg.Client({ connectionString: url.href })
    await latin.connect()
    await latin.query('create schema palette')
    await latin.query(
      "create table palette.worker_binding as select 'Zürich' as site, '10.0.0.1'::inet as host, 'prefer' as binding",
    )
    await latin.end()
    await done('database', 'add', 'workgroup', url.href)
    await done(...importDatabase)
    expect(await bindings()).toEqual(['Zürich 10.0.0.1 prefer'])
    await server.query(`drop database ${name} with (force)`)
  })

  it('tells sites by their letters, whatever the collation holds for equal', async () => {
    const { workgroup } = await install([])
    await workgroup.query(
      `create collation public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
    )
    await replaceTable(
      workgroup,
      'table palette.worker_binding (site text collate public.any_case, host inet, binding palette.worker_binding_enum)',
    )
    await workgroup.query(
      `insert into palette.worker_binding values ('CEO', '10.0.0.1', 'prefer'), ('ceo', '10.0.0.1', 'allow')`,
    )
    await done(...importDatabase)
    expect(await bindings()).toEqual(['CEO 10.0.0.1 prefer', 'ceo 10.0.0.1 allow'])
  })

  it('cannot write through us', async () => {
    const { workgroup } = await install([])
    await workgroup.query('create table public.trace (at timestamptz)')
    await workgroup.query(`create function public.note() returns text language sql volatile
      as $$ insert into public.trace values (now()); select 'CEO' $$`)
    await replaceTable(
      workgroup,
      `view palette.worker_binding as select public.note() as site, '10.0.0.1'::inet as host, 'prefer'::text as binding`,
    )
    const { code, err } = await run(...importDatabase)
    expect(code).toBe(1)
    expect(err).toContain('25006')
    expect(await workgroup.query('select from public.trace')).toEqual([])
  })

  it('has more rows than a list of bindings can have: nothing of it is taken', async () => {
    const { workgroup } = await install([])
    await replaceTable(
      workgroup,
      `view palette.worker_binding as select 's' || g as site, 'h1' as host, 'allow' as binding from generate_series(1, 100001) g`,
    )
    const { code, err } = await run(...importDatabase)
    expect(code).toBe(1)
    expect(err).toContain('has more than 100000 rows; nothing was imported')
    expect(await bindings()).toEqual([])
  })

  it('leaves out lines by itself: that is said', async () => {
    const { workgroup } = await install(['CEO,ceo.local,prefer', 'QA,10.0.0.27,prefer'])
    await workgroup.query("alter foreign table palette.worker_binding options (add on_error 'ignore')")
    const { err } = await done(...importDatabase)
    expect(err).toContain('leaves out lines that it cannot read')
    expect(await bindings()).toEqual(['QA 10.0.0.27 prefer'])
  })
})

describe('its file', () => {
  it('gives the same bindings as its database', async () => {
    const { file } = await install([...fourLines, fourLines[0] ?? ''])
    const { err } = await done('import', 'palette', '--csv', file)
    expect(err).toContain(`${file}:6 says the same as ${file}:2`)
    expect(await bindings()).toEqual(fourBindings)
    expect((await done(...importDatabase)).out).toContain('No changes.')
  })

  it('is refused with all its bad lines, and nothing is imported', async () => {
    const file = serverFile(
      'site,host,binding\nCEO,10.0.0.0/24,prefer\nCEO,10.0.0.1\nQA,h1,avoid\nQA,h1,allow\nQA,h1,forbid\n',
    )
    const { code, err } = await run('import', 'palette', '--csv', file, '--force')
    expect(code).toBe(1)
    expect(err).toContain('4 rows cannot be taken over; nothing was imported')
    for (const line of [2, 3, 4, 6]) expect(err).toContain(`${file}:${line}: found `)
    const json = await run('import', 'palette', '--csv', file, '--json')
    const { error } = JSON.parse(json.out)
    expect(error.code).toBe('bindings_invalid')
    expect(error.errors.map(({ line }: { line: number }) => line)).toEqual([2, 3, 4, 6])
    expect(await bindings()).toEqual([])
  })

  it('that is not there is named', async () => {
    const { code, err } = await run('import', 'palette', '--csv', '/nonexistent/workers.csv')
    expect(code).toBe(1)
    expect(err).toContain('/nonexistent/workers.csv cannot be read: there is no such file')
  })
})
