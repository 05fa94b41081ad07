import { beforeAll, expect, test } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { PlacementDesk } from './placement-desk.ts'

let desk: PlacementDesk

beforeAll(async () => {
  desk = await PlacementDesk.open(await createDatabase('second reader locks'))
})

test('a transaction that was left open on a limit, or on the bindings, keeps nobody waiting for longer than a worker may be silent', async () => {
  const [worker, holder] = [await desk.start('here'), await desk.database.client()]
  await desk.work(['site'])
  await desk.rows("select yardmaster.set_limit('pool', 1)")
  await holder.query('begin')
  await holder.query('select from yardmaster.concurrency_limit for update')
  await holder.query('select from yardmaster.placement for update')
  const asked = performance.now()
  await expect(desk.claim(worker)).rejects.toMatchObject({ code: '55P03' })
  expect(performance.now() - asked).toBeLessThan(8000)
  await expect(desk.rows("select yardmaster.set_binding('site', 'here', 'prefer')")).rejects.toMatchObject({
    code: '55P03',
  })
  await holder.query('rollback')
  expect(await desk.claim(worker)).toMatchObject([{ site: 'site' }])
})

test('who looked before another change was made does not judge by what was then, whatever its isolation', async () => {
  await desk.rows("select yardmaster.set_host('here'), yardmaster.set_host('there')")
  for (const isolation of ['repeatable read', 'serializable']) {
    const late = await desk.database.client()
    await late.query(`begin isolation level ${isolation}`)
    await late.query('select from yardmaster.bindings')
    await desk.rows("select yardmaster.set_binding('site', 'here', 'forbid')")
    await expect(late.query("select yardmaster.set_binding('site', 'there', 'forbid')")).rejects.toMatchObject({
      code: '40001',
    })
    await late.query('rollback')
    await desk.rows("select yardmaster.set_binding('site', 'here', null)")
  }
})
