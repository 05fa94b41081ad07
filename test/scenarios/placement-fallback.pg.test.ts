import { beforeEach, expect, test } from 'vitest'
import { PlacedHosts, seen } from './placement-hosts.ts'

let hosts: PlacedHosts

/** The host that CEO's work prefers lives, and its two slots are taken by copies that go on for as long as the test likes. */
beforeEach(async () => {
  hosts = await PlacedHosts.open('fallback')
  await hosts.bind('1-dedicated-with-fallback')
  for (const table of ['busy_one', 'busy_two']) await hosts.add(table, 'CEO', 'goods')
  for (const table of ['first', 'second', 'third']) await hosts.add(table, 'CEO', 'report')
  await hosts.start(['ceo.local'], 2)
  const copying = hosts.crew.hold()
  const busy = [await hosts.ask('busy_one'), await hosts.ask('busy_two')]
  await copying
  for (const run of busy) expect(await hosts.begins(run)).toMatchObject({ host: 'ceo.local', status: 'RUNNING' })
  await hosts.start(['qa.local', 'fallback.local'])
})

/** Milliseconds that a run had been due when it began, on a host that is only allowed. */
async function waited(run: string): Promise<number> {
  const attempt = await hosts.begins(run)
  expect(attempt).toMatchObject({
    number: 1,
    host: expect.stringMatching(/qa|fallback/),
    placement: 'fallback_elapsed',
  })
  return seen(`run ${run}, from due to begun`, attempt.slot, attempt.started_at)
}

test('work that has been due for the fallback delay goes to an allowed host then: its timer wakes it, not the look of every 5 s', async () => {
  await hosts.run('site', 'set', 'CEO', '--fallback-after', '3s')
  const run = await hosts.ask('first')
  const milliseconds = await waited(run)
  expect(milliseconds).toBeGreaterThanOrEqual(3000)
  expect(milliseconds).toBeLessThan(4000)
})

test('the delay counts from each run’s own due time: what starts of that site meanwhile makes nobody wait longer', async () => {
  await hosts.run('site', 'set', 'CEO', '--fallback-after', '3s')
  const runs: string[] = []
  for (const table of ['first', 'second', 'third']) {
    runs.push(await hosts.ask(table))
    const { slot } = (await due(runs.at(-1) ?? '')) ?? { slot: new Date() }
    // The next one is due a second later.
    await expect
      .poll(async () => (await hosts.crew.now()).getTime() - slot.getTime(), { timeout: 5000, interval: 20 })
      .toBeGreaterThan(1000)
  }
  for (const run of runs) {
    const milliseconds = await waited(run)
    expect(milliseconds).toBeGreaterThanOrEqual(3000)
    expect(milliseconds).toBeLessThan(4000)
  }
})

test('without a delay it waits for the preferred host, however long; set then, it counts from the time it was due', async () => {
  const run = await hosts.ask('first')
  const slot = (await due(run))?.slot ?? new Date()
  // Longer than the look of every 5 s.
  await expect
    .poll(async () => (await hosts.crew.now()).getTime() - slot.getTime(), { timeout: 15_000, interval: 50 })
    .toBeGreaterThan(5500)
  expect(await hosts.attempts(run)).toEqual([])
  await hosts.run('site', 'set', 'CEO', '--fallback-after', '3s')
  const set = await hosts.crew.now()
  await waited(run)
  const begun = (await hosts.begins(run)).started_at
  expect(seen('delay set to the run on an allowed host', set, begun)).toBeLessThan(1000)
})

async function due(run: string): Promise<{ slot: Date } | undefined> {
  const [row] = await hosts.crew.stage.controlDatabase.query<{ slot: Date }>(
    'select slot from yardmaster.run where id = $1',
    [run],
  )
  return row
}
