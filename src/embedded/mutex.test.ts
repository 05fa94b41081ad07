import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { startNode } from '../../test/support/process.ts'
import { withMutex } from './mutex.ts'
import { livingPlaces, takePlace } from './place.ts'

let directory: string

beforeAll(async () => {
  directory = join(inject('runDirectory'), `mutex-${process.pid}`)
  await mkdir(directory)
})

afterAll(() => rm(directory, { recursive: true }))

test('one at a time among many calls of one process; all get their turn, also after a failure', async () => {
  let inside = 0
  let most = 0
  const turn = async (fails: boolean) => {
    most = Math.max(most, ++inside)
    await delay(1)
    inside--
    if (fails) throw new Error('as ordered')
    return 'done'
  }
  const calls = Array.from({ length: 30 }, (_, i) => withMutex(directory, () => turn(i % 10 === 3)))
  const outcomes = await Promise.allSettled(calls)
  expect(most).toBe(1)
  expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBe(27)
  expect(await readdir(join(directory, 'mutex'))).toEqual([])
})

test('one at a time among processes, while others are killed inside', async () => {
  const script = `
    import { open, rm } from 'node:fs/promises'
    import { withMutex } from ${JSON.stringify(new URL('./mutex.ts', import.meta.url).href)}
    const [directory, forever] = process.argv.slice(1)
    console.log('begins')
    for (let i = 0; i < 40 || forever; i++) {
      await withMutex(directory, async () => {
        const file = directory + '/inside'
        // A killed one leaves its file with a dead process id in it; a living one must never be met.
        const found = await open(file, 'r').then(async (it) => [await it.readFile('utf8'), await it.close()][0], () => '')
        if (found !== '') try { process.kill(Number(found), 0); throw new Error('not alone: ' + found) } catch (error) {
          if (error.code !== 'ESRCH') throw error
        }
        const mine = await open(file, 'w')
        await mine.writeFile(String(process.pid))
        await mine.close()
        await new Promise((resolve) => setTimeout(resolve, 1))
        await rm(file)
      })
    }
  `
  const start = (...more: string[]) => startNode(['--input-type=module', '-e', script, directory, ...more])
  const all = [start(), start(), start()]
  for (let i = 0; i < 4; i++) {
    const victim = start('forever')
    await victim.waitForOutput(/begins/)
    await delay(Math.random() * 60)
    await victim.kill('SIGKILL')
  }
  for (const process of all) expect(await process.ended).toMatchObject({ exitCode: 0, stderr: '' })
})

test('a place counts for as long as its process lives, and for that process only', async () => {
  const places = join(directory, 'places')
  expect(await livingPlaces(places)).toEqual([])
  const own = await takePlace(places)
  await writeFile(join(places, `${process.pid}-1.00000000-abc`), '')
  await writeFile(join(places, '999999999-1.00000000-abc'), '')
  expect(await livingPlaces(places, own)).toEqual([])
  expect(await livingPlaces(places)).toEqual([own])
  expect((await readdir(places)).length).toBe(1)
})
