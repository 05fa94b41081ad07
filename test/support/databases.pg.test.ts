import { expect, test } from 'vitest'
import { createDatabase, postgres14, startServer } from './databases.ts'

test('a database of its own, also from a template', async () => {
  const first = await createDatabase('First one')
  await first.query('create table public.t as select 1 as a')
  await first.query('select 1')
  const other = await first.client()
  await other.end()
  const blank = await createDatabase('First one')
  expect(blank.name).not.toBe(first.name)
  expect(await blank.query("select to_regclass('public.t') as t")).toEqual([{ t: null }])
  const version = await first.query<{ server_version_num: string }>('show server_version_num')
  expect(version[0]?.server_version_num).toMatch(/^18/)
  await first.drop()
  await first.drop()
})

test('a copy of a template', async () => {
  const template = await createDatabase('template')
  const writer = await template.client()
  await writer.query('create table public.t as select 7 as a')
  await writer.end()
  const copy = await createDatabase('copy', { template: template.name })
  expect(await copy.query('select a from public.t')).toEqual([{ a: 7 }])
})

test('PostgreSQL 14, started once and then found', async () => {
  const [one, two] = await Promise.all([postgres14(), postgres14()])
  expect(two.url).toBe(one.url)
  const database = await one.createDatabase('old')
  const rows = await database.query<{ server_version_num: string }>('show server_version_num')
  expect(rows[0]?.server_version_num).toMatch(/^14/)
})

test('a private server is killed, stopped and restarted on its port', async () => {
  const server = await startServer({ settings: { work_mem: '7MB' } })
  const database = await server.createDatabase('private')
  expect(await database.query('show work_mem')).toEqual([{ work_mem: '7MB' }])
  const { pid } = server
  await server.kill('SIGKILL')
  // Its other processes notice a moment later.
  const answers = () =>
    database.query('select 1').then(
      () => true,
      () => false,
    )
  await expect.poll(answers, { timeout: 10_000, interval: 20 }).toBe(false)
  await server.restart()
  expect(server.pid).not.toBe(pid)
  await server.stop('immediate')
  await server.restart()
  expect(await (await database.client()).query('select 1')).toMatchObject({ rowCount: 1 })
})
