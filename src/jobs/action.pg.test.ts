import { createConnection, createServer } from 'node:net'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { CallDesk } from '../../test/jobs/call-desk.ts'
import { createDatabase, type TestDatabase } from '../../test/support/databases.ts'
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
