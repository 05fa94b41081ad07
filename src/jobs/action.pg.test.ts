import { createConnection, createServer } from 'node:net'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { CallDesk } from '../../test/jobs/call-desk.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
import { sql } from '../postgres/sql.ts'
import { checkAction } from './action.ts'

let target: TestDatabase
let desk: CallDesk

beforeAll(async () => {
  target = await createDatabase('action')
  desk = new CallDesk(target.url)
  await target.query(`create table public.seen (config jsonb);
    create procedure public.acts(job_id int, config jsonb) language sql as $$ select $$;
    create function public.checks(config jsonb) returns void language plpgsql as $$ begin
      insert into seen values (config); if config ? 'bad' then raise 'a bad key' using errcode = '22023'; end if; end $$;
    create procedure public.no_check(config jsonb) language sql as $$ select $$`)
})

describe('what is looked at before a job is let loose', () => {
  const check = async (name: string | null, config: string | null, action = 'acts') => {
    const session = await desk.connector()('look up a job')
    const named = (one: string) => ({ schema: 'public', name: one })
    return checkAction(session, { action: named(action), check: name === null ? null : named(name), config }).finally(
      () => session.end(),
    )
  }

  it('an action that is there, and a check that has nothing against it and leaves nothing', async () => {
    expect(await check(null, null)).toEqual({
      schema: 'public',
      name: 'acts',
      kind: 'procedure',
      idType: 'integer',
      mayCommit: false,
    })
    expect(await check('checks', '{}')).toMatchObject({ kind: 'procedure' })
    expect(await target.query('select from public.seen')).toEqual([])
  })

  it('a check that refuses, is no function, or is not there', async () => {
    await expect(check('checks', '{"bad": 1}')).rejects.toMatchObject({
      code: 'config_refused',
      sqlstate: '22023',
      message: expect.stringMatching(/public.checks refuses the configuration: a bad key/),
    })
    await expect(check('no_check', null)).rejects.toThrow(/Only functions are allowed as custom configuration checks/)
    await expect(check('absent', null)).rejects.toMatchObject({ code: 'action_missing' })
    await expect(check(null, null, 'absent')).rejects.toMatchObject({ code: 'action_missing' })
  })
})

it('a pooler is refused before anything is called', async () => {
  const { hostname, port } = new URL(target.url)
  const pooler = createServer((client) => {
    const upstream = createConnection(Number(port), hostname)
    for (const socket of [client, upstream]) socket.on('error', () => undefined)
    client.pipe(upstream)
    upstream.on('data', (bytes) => {
      // The key by which a statement is cancelled names another process, as a pooler's does.
      const at = bytes.indexOf(Buffer.from('K\0\0\0\x0c', 'latin1'))
      if (at !== -1) bytes.writeInt32BE(7, at + 5)
      client.write(bytes)
    })
    client.on('close', () => upstream.destroy())
  })
  await new Promise<void>((resolve) => pooler.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void pooler.close())
  const url = Object.assign(new URL(target.url), { port: String((pooler.address() as { port: number }).port) }).href
  const claims = desk.processes.length
  await expect(desk.proc('acts', { url })).rejects.toMatchObject({ code: 'pooler_refused' })
  expect(desk.processes.length).toBe(claims)
})

describe('a name without a schema', () => {
  beforeAll(async () => {
    await target.query(`create schema first; create schema second;
      create procedure first.acts_twice(job_id text) language sql as $$ select $$;
      create procedure second.acts_twice(job_id int, config jsonb) language sql as $$ insert into public.seen values ('"second"') $$;
      create function second.checks_too(config jsonb) returns void language plpgsql as $$ begin raise 'refused in second'; end $$;
      alter database ${target.name} set search_path = first, second, public`)
  })

  it('is looked up by the search path of the database, and called there', async () => {
    await target.query('truncate public.seen')
    const outcome = await desk.proc('acts_twice', { procSchema: null })
    expect(outcome).toMatchObject({ level: 'OK', message: 'acts_twice ended.' })
    expect(await target.query('select config from public.seen')).toEqual([{ config: 'second' }])
    const session = await desk.connector()('look up a job')
    onTestFinished(() => session.end())
    const action = { schema: null, name: 'acts_twice' }
    expect(await checkAction(session, { action, check: null, config: null })).toMatchObject({ schema: 'second' })
    expect(await session.one(sql`show search_path`)).toEqual({ search_path: '""' })
    await expect(
      checkAction(session, { action, check: { schema: null, name: 'checks_too' }, config: null }),
    ).rejects.toMatchObject({ code: 'config_refused', message: expect.stringContaining('refused in second') })
  })

  it('that is nowhere on it is no success: nothing at all is not called', async () => {
    await expect(desk.proc('acts_nowhere', { procSchema: null })).rejects.toMatchObject({
      code: 'action_missing',
      message: expect.stringContaining('"acts_nowhere(integer, jsonb)" does not exist'),
    })
    await expect(desk.call({ procName: null })).rejects.toThrow(/names nothing/)
  })
})
