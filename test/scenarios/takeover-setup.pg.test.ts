import { beforeEach, expect, test } from 'vitest'
import { Crew } from './crew.ts'
import { addArguments, wanted } from './stage.ts'

let crew: Crew

beforeEach(async () => {
  crew = await Crew.muster('take-over set-up')
})

const status = () => crew.stage.controlDatabase.query('select status from yardmaster.replications')

async function stands(): Promise<void> {
  expect(await status()).toEqual([{ status: 'active' }])
  expect(await crew.stage.rows('copies.goods')).toBe(5000)
  expect(await crew.stage.destination.query('select read_number from yardmaster.position')).toEqual([
    { read_number: '1' },
  ])
}

test('a set-up that hangs and is finished by another worker is not undone when its first worker wakes', async () => {
  const copying = crew.hold()
  const first = await crew.worker('h1')
  const queued = await crew.stage.run([...addArguments(wanted('table')), '--queue'])
  expect(queued.exitCode).toBe(0)
  await copying
  await crew.worker('h2')
  process.kill(first.pid, 'SIGSTOP')
  crew.release()
  await crew.attemptsBecome(
    [
      { host: 'h1', status: 'CRITICAL' },
      { host: 'h2', status: 'OK' },
    ],
    60_000,
  )
  await stands()
  process.kill(first.pid, 'SIGCONT')
  await first.waitForOutput(/run \d+ \w+ in .*another attempt took its place/)
  await stands()
})

test('a command whose set-up hangs and is finished by another one does not undo it either', async () => {
  const copying = crew.hold()
  const command = crew.stage.start(addArguments(wanted('table')))
  await copying
  process.kill(command.pid, 'SIGSTOP')
  crew.release()
  const finish = () => crew.stage.run(['replication', 'refresh', 'copies.goods', '--json'])
  await expect.poll(async () => (await finish()).json().status, { timeout: 60_000, interval: 2000 }).toBe('OK')
  await stands()
  process.kill(command.pid, 'SIGCONT')
  expect((await command.ended).stderr).toContain(
    'Error [fenced] Another attempt has finished dwh:copies.goods meanwhile; nothing was removed.',
  )
  await stands()
})
