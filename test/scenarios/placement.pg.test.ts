import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFailed, test } from 'vitest'
import { Fleet } from './fleet.ts'
import { PlacementChronicle } from './placement-chronicle.ts'
import { hostNames, PlacedHosts } from './placement-hosts.ts'
import { PlacementNemesis, sites } from './placement-nemesis.ts'
import { PlacementWitness } from './placement-witness.ts'
import { Random } from './random.ts'

/** `npm run soak:placement` runs the long form. YARDMASTER_PLACEMENT_SEED repeats an order of faults. */
const seconds = Number(process.env.YARDMASTER_SOAK_SECONDS ?? 30)
const seed = Number(process.env.YARDMASTER_PLACEMENT_SEED ?? Math.floor(Math.random() * 1e9))

test(`four hosts, four kinds of work, ${seconds} s of faults: no attempt against the rule, no run lost, none twice`, {
  timeout: (seconds + 180) * 1000,
}, async () => {
  console.log(`seed ${seed}`)
  const random = new Random(seed)
  const hosts = await PlacedHosts.open('placement')
  const { stage, record } = hosts.crew
  const chronicle = new PlacementChronicle(hostNames)
  const nemesis = new PlacementNemesis(hosts, chronicle, random, seconds > 60 ? 20_000 : 6000)
  onTestFailed(() => console.log(`seed ${seed}\n${nemesis.history.join('\n')}`))
  const fleet = new Fleet(stage, 16, random, { sites: [...sites, null], slowest: 2 })
  await nemesis.apply('4-one-way-fallback')
  await fleet.launch()
  await hosts.start()
  await fleet.isSetUp()
  await record.begin()
  const witness = await PlacementWitness.begin(stage.controlDatabase)

  fleet.write()
  const asked: string[] = []
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    await nemesis.strike()
    const [run] = await stage.controlDatabase.query<{ id: string }>(
      `select yardmaster.queue_run(job_id, 'refresh', '{"force": true}') as id from yardmaster.replications offset $1 limit 1`,
      [random.below(16)],
    )
    if (run) asked.push(run.id)
    // The time between two faults is part of the scenario; nothing is waited for by it.
    await delay(400 + random.below(800))
  }
  await nemesis.rest()
  expect(await fleet.stopWriting()).toBeGreaterThan(0)
  await fleet.endSchedules()
  await fleet.becomesEqual()

  const attempts = await witness.attempts()
  expect(attempts.flatMap((attempt) => chronicle.faults(attempt))).toEqual([])
  await record.isInOrder()
  await stage.nothingRuns()
  expect(await lost(hosts, asked)).toEqual([])
  const told = Object.entries(Object.groupBy(attempts, (attempt) => attempt.placement ?? 'none'))
  console.log(`${attempts.length} attempts: ${told.map(([code, of]) => `${of?.length} ${code}`).join(', ')}`)
  for (const host of hostNames) expect(attempts.map((attempt) => attempt.host)).toContain(host)
  expect(told.map(([code]) => code)).toEqual(expect.arrayContaining(['prefers', 'allowed', 'no_site']))
})

/** Runs that were asked for and did not end well, but for those that cost five workers. */
async function lost(hosts: PlacedHosts, asked: readonly string[]): Promise<unknown[]> {
  return hosts.crew.stage.controlDatabase.query(
    `select i.id, r.status, r.reason, r.message from unnest($1::bigint[]) i(id) left join yardmaster.runs r on r.id = i.id
     where r.status is distinct from 'OK' and (r.reason is distinct from 'worker_lost' or r.attempt < 5)`,
    [asked],
  )
}
