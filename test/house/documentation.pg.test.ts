import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, inject, it } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { root } from './source-tree.ts'

const run = promisify(execFile)

/** A command of a console example, and the lines that it is said to print (none: nothing is said); or SQL for the shop. */
type Example = { readonly command: string; readonly output: readonly string[] } | { readonly statements: string }

/** The `console` and `sql` blocks of a page, in order. */
function examplesOf(path: string): Example[] {
  const text = readFileSync(join(root, path), 'utf8')
  return [...text.matchAll(/^```(console|sql)\n(.*?)^```/gms)].flatMap(([, kind, block = '']): Example[] => {
    if (kind === 'sql') return [{ statements: block }]
    return block
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const [command = '', ...output] = part.trimEnd().split('\n')
        return { command, output }
      })
  })
}

/** Figures differ from run to run, and so do the names of the tests' databases. */
function comparable(text: string): string {
  return text
    .replaceAll(/\d[\d,.]*( (ms|s|min|B|KiB|MiB))?/g, '#')
    .replaceAll(/t_[a-z_#]+/g, 'shop')
    .trimEnd()
}

/** The files that a page shows: a name in backquotes, and a block below it. A connection in one leads to the tests' database. */
function filesOf(path: string, database: string): { name: string; text: string }[] {
  const text = readFileSync(join(root, path), 'utf8')
  const url = new URL(database)
  const parts = [url.username, `'${url.password}'`, url.hostname, url.port, url.pathname.slice(1)]
  return [...text.matchAll(/^`([\w.-]+)`:\n\n```(?:csv|yaml)\n(.*?)^```/gms)].map(([, name = '', body = '']) => ({
    name,
    text: ['user', 'password', 'host', 'port', 'database'].reduce(
      (filled, key, index) => filled.replace(new RegExp(`^( +${key}:) .*$`, 'm'), `$1 ${parts[index]}`),
      body,
    ),
  }))
}

const guides = [
  'README.md',
  'docs/guide/copy-tables.md',
  'docs/guide/keep-current.md',
  'docs/guide/place-work.md',
  'docs/guide/schedule-jobs.md',
  'docs/guide/from-hdbpp.md',
  'docs/guide/from-timescaledb.md',
]

describe.each(guides)('the examples of %s', (page) => {
  let shop: TestDatabase
  let warehouse: TestDatabase
  let environment: Record<string, string>
  let folder: string

  beforeAll(async () => {
    shop = await createDatabase('shop')
    warehouse = await createDatabase('warehouse')
    await shop.query(`create table public.orders (id int primary key, total numeric(10,2) not null, status text not null,
      placed_at timestamptz not null default now())`)
    await shop.query(
      `insert into public.orders select g, g * 1.5, case g % 3 when 0 then 'open' else 'paid' end from generate_series(1, 1000) g`,
    )
    await shop.query('create table public.customers (id serial primary key, name text)')
    await shop.query("insert into public.customers (name) select 'customer ' || g from generate_series(1, 50) g")
    await shop.query(
      'create table public.stock (id int primary key, amount int, changed_at timestamptz not null default now())',
    )
    await shop.query('insert into public.stock select g, g from generate_series(1, 20) g')
    await shop.query('create table public.measurements (at timestamptz)')
    // A session reports its writes up to 10 s late; until then the second refresh would copy again, and rightly so.
    await shop.query('select pg_stat_force_next_flush()')
    await warehouse.query('create schema dev')
    await warehouse.query('create table dev.customers (id serial primary key, name text)')
    folder = mkdtempSync(join(inject('runDirectory'), 'documentation-'))
    // The embedded control server runs under another user when the tests run as root.
    chmodSync(folder, 0o711)
    for (const { name, text } of filesOf(page, shop.url)) writeFileSync(join(folder, name), text)
    environment = {
      PATH: `${join(root, 'bin')}:${process.env.PATH}`,
      HOME: folder,
      LANG: 'C.UTF-8',
      YARDMASTER_DATA_DIR: join(folder, 'data'),
      SHOP_URL: shop.url,
      WAREHOUSE_URL: warehouse.url,
    }
  })

  it('run as printed, one after the other, and print what is said', async () => {
    const examples = examplesOf(page)
    expect(examples.length).toBeGreaterThan(4)
    // npx finds the program of a clone in the clone only.
    const cwd = page === 'README.md' ? root : folder
    for (const example of examples) {
      if ('statements' in example) {
        await shop.query(example.statements)
        continue
      }
      const { command, output } = example
      const { stdout } = await run('bash', ['-c', command], { cwd, env: environment }).catch((error: Error) => {
        throw new Error(`${command}\n${error.message}`)
      })
      if (output.length > 0) expect(comparable(stdout), command).toBe(comparable(output.join('\n')))
    }
  }, 240_000)
})

describe('the pages', () => {
  const pages = [
    'README.md',
    'ARCHITECTURE.md',
    'GLOSSARY.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    'docs/status.md',
    'docs/guide/copy-tables.md',
    'docs/guide/keep-current.md',
    'docs/guide/place-work.md',
    'docs/guide/schedule-jobs.md',
    'docs/guide/from-hdbpp.md',
    'docs/guide/use-the-library.md',
    'docs/guide/from-timescaledb.md',
    'docs/decisions/README.md',
  ]

  it.each(pages)('%s has no link to nowhere', (page) => {
    const text = readFileSync(join(root, page), 'utf8')
    const links = [...text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map((match) => match[1] ?? '')
    expect(links.filter((link) => !existsSync(join(root, dirname(page), link)))).toEqual([])
  })
})
