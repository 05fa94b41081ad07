import { beforeEach, describe, expect, test } from 'vitest'
import { PlacedHosts, seen } from './placement-hosts.ts'

let hosts: PlacedHosts

beforeEach(async () => {
  hosts = await PlacedHosts.open('fail-over')
})

describe('the one preferred host of a site', () => {
  beforeEach(async () => {
    await hosts.bind('1-dedicated-with-fallback')
    await hosts.add('report', 'CEO')
    await hosts.add('big', 'CEO', 'goods')
    await hosts.start()
  })

  test('killed, twice: its work falls back within 5 s, and goes back within 5 s of its return', async () => {
    for (const round of ['first', 'second']) {
      expect(await hosts.ends(await hosts.ask('report'))).toMatchObject({ host: 'ceo.local', placement: 'prefers' })
      const killed = await hosts.crew.now()
      await hosts.worker('ceo.local').kill('SIGKILL')
      const fallen = await hosts.begins(await hosts.ask('report'))
      expect(fallen).toMatchObject({ host: expect.not.stringContaining('ceo.local'), placement: 'allowed' })
      expect(seen(`${round} kill to the first run on another host`, killed, fallen.started_at)).toBeLessThan(5000)
      await hosts.start(['ceo.local'])
      const back = await hosts.crew.now()
      expect(
        seen(`${round} return to the first run there`, back, await hosts.comesTo('report', 'ceo.local')),
      ).toBeLessThan(5000)
    }
  })

  test('killed in the middle of a run: another host goes on with that run within 5 s', async () => {
    await hosts.crew.record.begin()
    const copying = hosts.crew.hold()
    const run = await hosts.ask('big')
    await copying
    const killed = await hosts.crew.now()
    await hosts.worker('ceo.local').kill('SIGKILL')
    const again = await hosts.begins(run, 2)
    expect(again).toMatchObject({ host: expect.not.stringContaining('ceo.local'), placement: 'allowed' })
    expect(seen('kill to the next attempt of the same run', killed, again.started_at)).toBeLessThan(5000)
    hosts.crew.release()
    await hosts.ends(run)
    await hosts.crew.allIsWell('copies.big')
  })

  test('stopped like a machine that is ended in order: its work falls back at once', async () => {
    const ended = hosts.worker('ceo.local').kill('SIGTERM')
    await ended
    const since = await hosts.crew.now()
    const fallen = await hosts.begins(await hosts.ask('report'))
    expect(fallen.host).not.toBe('ceo.local')
    expect(seen('end to the first run on another host', since, fallen.started_at)).toBeLessThan(1000)
  })

  test('drained: what runs goes on there, what comes next moves at once; undrained, it goes back at once', async () => {
    const copying = hosts.crew.hold()
    const held = await hosts.ask('big')
    await copying
    await hosts.run('host', 'drain', 'ceo.local', '--yes')
    const drained = await hosts.crew.now()
    const moved = await hosts.begins(await hosts.ask('report'))
    expect(moved).toMatchObject({ host: expect.not.stringContaining('ceo.local'), placement: 'allowed' })
    expect(seen('drain to the first run on another host', drained, moved.started_at)).toBeLessThan(1000)
    hosts.crew.release()
    expect(await hosts.ends(held)).toMatchObject({ number: 1, host: 'ceo.local' })
    await hosts.run('host', 'undrain', 'ceo.local')
    expect(await hosts.ends(await hosts.ask('report'))).toMatchObject({ host: 'ceo.local', placement: 'prefers' })
  })
})

test('stopped by SIGSTOP, and cut off half open: their work falls back within 30 s; awake and reachable, it goes back', async () => {
  await hosts.bind('4-one-way-fallback')
  await hosts.add('ceo', 'CEO')
  await hosts.add('qa', 'QA')
  await hosts.start()
  for (const site of ['ceo', 'qa'] as const) {
    expect(await hosts.ends(await hosts.ask(site))).toMatchObject({ host: `${site}.local`, placement: 'prefers' })
  }
  const lost = await hosts.crew.now()
  process.kill(hosts.worker('ceo.local').pid, 'SIGSTOP')
  hosts.way('qa.local').set('both', { kind: 'half-open' })
  const [ceo, qa] = [await hosts.ask('ceo'), await hosts.ask('qa')]
  const fallen = { ceo: await hosts.begins(ceo), qa: await hosts.begins(qa) }
  expect(fallen.ceo).toMatchObject({ host: expect.stringMatching(/marketing|fallback/), placement: 'allowed' })
  expect(fallen.qa).toMatchObject({ host: 'fallback.local', placement: 'allowed' })
  expect(seen('SIGSTOP to the first run on another host', lost, fallen.ceo.started_at)).toBeLessThan(30_000)
  expect(seen('half open to the first run on another host', lost, fallen.qa.started_at)).toBeLessThan(30_000)

  const back = await hosts.crew.now()
  process.kill(hosts.worker('ceo.local').pid, 'SIGCONT')
  hosts.way('qa.local').set('both', { kind: 'pass' })
  expect(seen('SIGCONT to the first run there', back, await hosts.comesTo('ceo', 'ceo.local'))).toBeLessThan(5000)
  expect(seen('reachable to the first run there', back, await hosts.comesTo('qa', 'qa.local'))).toBeLessThan(5000)
  await hosts.crew.stage.nothingRuns()
})

test('dedicated without fallback: the work of a host that is down waits, check says so, and it runs when the host is back', async () => {
  await hosts.bind('3-dedicated-no-fallback')
  await hosts.add('report', 'CEO')
  await hosts.add('other', 'QA')
  await hosts.start()
  expect(await hosts.ends(await hosts.ask('report'))).toMatchObject({ host: 'ceo.local' })
  await hosts.worker('ceo.local').kill('SIGKILL')
  const run = await hosts.ask('report')
  const alerts = async () => {
    const { exitCode, json } = await hosts.crew.stage.run(['check', '--json'])
    return { exitCode, alerts: json().alerts as unknown }
  }
  await expect.poll(alerts, { timeout: 15_000, interval: 100 }).toMatchObject({
    exitCode: 2,
    alerts: expect.arrayContaining([expect.objectContaining({ alert_status: 'site_stranded', job_name: 'site CEO' })]),
  })
  // Everybody has had his chance meanwhile: other work is taken.
  expect(await hosts.ends(await hosts.ask('other'))).toMatchObject({ host: expect.not.stringContaining('ceo.local') })
  expect(await hosts.attempts(run)).toEqual([])
  await hosts.start(['ceo.local'])
  const back = await hosts.crew.now()
  const begun = await hosts.ends(run)
  expect(begun).toMatchObject({ host: 'ceo.local', placement: 'prefers' })
  expect(seen('return to the run that waited', back, begun.started_at)).toBeLessThan(5000)
  expect(await alerts()).not.toMatchObject({
    alerts: expect.arrayContaining([expect.objectContaining({ alert_status: 'site_stranded' })]),
  })
})
