import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import { createDatabase, startServer } from '../support/databases.ts'
import { startCli } from '../support/process.ts'
import { startProxy } from '../support/proxy.ts'
import { DestinationRecord } from './destination-record.ts'
import { Fleet } from './fleet.ts'
import { Nemesis, type Victim } from './nemesis.ts'
import { Random } from './random.ts'
import { reopened, type Stage, setStage } from './stage.ts'

/** `npm run soak:chaos` runs the long form. YARDMASTER_CHAOS_SEED repeats one. */
const long = process.env.YARDMASTER_CHAOS === 'long'
const seed = Number(process.env.YARDMASTER_CHAOS_SEED ?? Math.floor(Math.random() * 1e9))
const form = long
  ? { replications: 200, faults: 24, every: 5000, longest: 25_000 }
  : { replications: 40, faults: 9, every: 2000, longest: 6000 }

async function startVictims(stage: Stage): Promise<{ victims: Victim[]; revive: (victim: Victim) => void }> {
  const start = (host: string, url: string) =>
    startCli(['worker', '--host', host, '--slots', '4'], {
      env: { ...stage.environment, YARDMASTER_CONTROL_URL: url },
      deadlineMs: 900_000,
    })
  const victims = await Promise.all(
    ['h1', 'h2'].map(async (host): Promise<Victim> => {
      const control = await startProxy(stage.controlDatabase.url)
      return { host, control, running: start(host, control.url), stopped: false }
    }),
  )
  onTestFinished(() => {
    for (const { running } of victims) void running.kill('SIGKILL')
  })
  return {
    victims,
    revive: (victim) => {
      victim.running = start(victim.host, victim.control.url)
    },
  }
}

test(`${form.replications} replications, two workers, ${form.faults} faults: equal at the end, nothing left, none twice at once`, {
  timeout: 900_000,
}, async () => {
  console.log(`seed ${seed}`)
  const random = new Random(seed)
  const controlServer = await startServer()
  const [source, destination] = [await createDatabase('chaos source'), await createDatabase('chaos destination')]
  const sides = [
    { database: source, proxy: await startProxy(source.url) },
    { database: destination, proxy: await startProxy(destination.url) },
  ] as const
  const stage = await setStage(
    'chaos',
    { source, destination, control: await controlServer.createDatabase('chaos control') },
    { source: sides[0].proxy.url, destination: sides[1].proxy.url },
  )
  const fleet = new Fleet(stage, form.replications, random)
  await fleet.launch()
  const { victims, revive } = await startVictims(stage)
  const nemesis = new Nemesis({ victims, revive, sides, controlServer }, random, form.longest)
  onTestFailed(() => {
    console.log(`seed ${seed}\n${nemesis.history.join('\n')}`)
    for (const { host, running } of victims)
      console.log(`${host}:\n${running.stderr().split('\n').slice(-30).join('\n')}`)
  })
  await fleet.isSetUp()
  const record = new DestinationRecord(destination)
  await record.begin()

  fleet.write()
  for (let fault = 1; fault <= form.faults; fault += 1) {
    // The time between two faults is part of the scenario; nothing is waited for by it.
    await delay(form.every)
    if (fault === Math.ceil(form.faults / 2)) await nemesis.restartControl()
    else await nemesis.strike()
  }
  await nemesis.rest()
  fleet.forgetConnections()
  expect(await fleet.stopWriting()).toBeGreaterThan(0)
  await fleet.endSchedules()
  await fleet.becomesEqual()
  await record.isInOrder()

  const calm = stage.with({ controlDatabase: reopened(stage.controlDatabase) })
  await calm.nothingRuns()
  const ended = await Promise.all(victims.map(({ running }) => running.kill('SIGTERM')))
  expect(ended.map(({ exitCode }) => exitCode)).toEqual([143, 143])
  await calm.nothingRuns()
  await calm.sessionsEnd()
  const [told] = await calm.controlDatabase.query(
    `select count(*) filter (where a.number > 1)::int as taken_over, count(*)::int as attempts from yardmaster.attempt a`,
  )
  console.log(`${told.attempts} attempts, ${told.taken_over} of them take-overs, ${await record.effects()} effects`)
})
