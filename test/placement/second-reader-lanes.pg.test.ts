import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { PlacementDesk } from './placement-desk.ts'

/** How a run that goes on comes back to the queue. */
const waysBack: [string, string][] = [
  [
    'given back by its worker',
    `select yardmaster.finish_run(a.token, 'WAITING', 'given_back', 'The worker stops.', null, null)
     from yardmaster.attempt a where a.run_id = $1`,
  ],
  [
    'lost with its worker',
    'select yardmaster.give_up_attempts(array[a.worker_id]) from yardmaster.attempt a where a.run_id = $1',
  ],
]

describe.each(waysBack)('a run that is %s', (_name, giveBack) => {
  let desk: PlacementDesk

  beforeAll(async () => {
    desk = await PlacementDesk.open(await createDatabase('second reader lanes'))
  })

  async function begun(site: string): Promise<{ run: string; job: number }> {
    const [run = ''] = await desk.work([site])
    expect((await desk.claim(await desk.start('here'))).map((one) => one.run_id)).toContain(run)
    const [row] = await desk.rows<{ job_id: number }>('select job_id from yardmaster.runs where id = $1', [run])
    return { run, job: row?.job_id ?? 0 }
  }

  test('is of the site that its job belongs to by now', async () => {
    const { run, job } = await begun('old')
    await desk.rows('select yardmaster.alter_replication($1, $2)', [job, '{"site": "new", "pool": "night"}'])
    await desk.bind(
      [
        { site: 'old', host: 'here', binding: 'forbid' },
        { site: 'old', host: 'there', binding: 'forbid' },
      ],
      true,
    )
    await desk.rows(giveBack, [run])
    expect(await desk.claim(await desk.start('here'))).toMatchObject([
      { run_id: run, site: 'new', placement: 'allowed' },
    ])
    await desk.rows("select yardmaster.set_limit('night', 1)")
    expect(await desk.rows('select running from yardmaster.limits')).toEqual([{ running: 1 }])
    await desk.rows("select yardmaster.remove_limit('night')")
  })

  test('has a lane, though it began before there were lanes', async () => {
    const { run } = await begun('before')
    await desk.rows('update yardmaster.run set lane = null where id = $1', [run])
    await desk.rows(giveBack, [run])
    expect(await desk.claim(await desk.start('here'))).toMatchObject([{ run_id: run }])
  })

  test('waits for whoever is giving its job another site', async () => {
    const { run, job } = await begun('meanwhile')
    const [changer, giver] = [await desk.database.client(), await desk.database.client()]
    await changer.query('begin')
    await changer.query('select yardmaster.alter_replication($1, $2)', [job, '{"site": "after"}'])
    const back = giver.query(giveBack, [run])
    expect(await desk.waits(giver, back)).toBe(true)
    await changer.query('commit')
    await back
    expect(await desk.claim(await desk.start('here'))).toMatchObject([{ run_id: run, site: 'after' }])
  })
})

test('work that waits follows its job, also where its site or pool was written without a function', async () => {
  const desk = await PlacementDesk.open(await createDatabase('second reader raw'))
  const [run = ''] = await desk.work(['one'])
  await desk.rows("insert into yardmaster.site (name) values ('two')")
  await desk.rows("update yardmaster.job set site = 'two', pool = 'night'")
  const keys = () => desk.rows('select r.site, l.keys from yardmaster.run r join yardmaster.lane l on l.id = r.lane')
  expect(await keys()).toEqual([{ site: 'two', keys: ['database:crm', 'database:dwh', 'night', 'site:two'] }])
  await desk.bind([{ site: 'one', host: 'here', binding: 'forbid' }])
  expect(await desk.claim(await desk.start('here'))).toMatchObject([{ run_id: run, placement: 'allowed' }])
  // What an inserted run says of its site counts for nothing: its job's site does.
  await desk.rows("update yardmaster.run set status = 'OK'")
  await desk.rows(`insert into yardmaster.run (job_id, slot, database_id, operation, object, site, status, queued)
    select id, now(), 2, 'refresh', 'x', 'one', 'WAITING', true from yardmaster.job`)
  expect(await desk.claim(await desk.start('here'))).toMatchObject([{ site: 'two' }])
})
