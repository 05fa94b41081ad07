import { expect, test } from 'vitest'
import { Failure } from '../base/failure.ts'
import { ConnectGate, pauseAfter } from './connect-gate.ts'

const dwh = { side: 'destination', object: 'dwh' } as const
const dead = new Failure('source_unreachable', { message: 'refused', object: 'crm', retryable: true })

/** A gate by a clock that a test turns. */
function gateAt(): { gate: ConnectGate; clock: { now: number } } {
  const clock = { now: 1_000_000 }
  return {
    gate: new ConnectGate(
      () => clock.now,
      () => 0.5,
    ),
    clock,
  }
}

async function fails(gate: ConnectGate, failure = dead): Promise<void> {
  await expect(gate.pass(dwh, () => Promise.reject(failure))).rejects.toBe(failure)
}

test.each([
  [0, 0, 500],
  [0, 0.99, 599],
  [1, 0, 1000],
  [8000, 0, 1000],
  [16_000, 0, 2000],
  [16_000, 0.5, 2200],
  [240_000, 0, 30_000],
  [86_400_000, 0, 30_000],
])('dead for %d ms, chance %d: a pause of %d ms', (outage, random, pause) => {
  expect(Math.floor(pauseAfter(outage, random))).toBe(pause)
})

test('an hour of an outage: at most a try a second, in the end one in 30 s, and none sooner than the pause', async () => {
  const { gate, clock } = gateAt()
  const tries: number[] = []
  const begun = clock.now
  const attempt = async () => {
    tries.push(clock.now - begun)
    throw dead
  }
  for (let second = 0; second < 3600; second += 0.25) {
    clock.now = begun + second * 1000
    await expect(gate.pass(dwh, attempt)).rejects.toMatchObject({ code: expect.stringMatching(/_unreachable$/) })
  }
  const gaps = tries.slice(1).map((at, index) => at - (tries[index] ?? 0))
  expect(gaps[0]).toBeGreaterThanOrEqual(500)
  expect(Math.min(...gaps.slice(1))).toBeGreaterThanOrEqual(1000)
  expect(Math.max(...gaps)).toBeLessThanOrEqual(36_250)
  expect(Math.min(...gaps.slice(-90))).toBeGreaterThanOrEqual(30_000)
  // Found again within an eighth of the outage, and a fifth and a look more.
  for (const [index, gap] of gaps.entries())
    expect(gap).toBeLessThanOrEqual(Math.max(1450, (tries[index] ?? 0) * 0.15 + 250))
})

test('within a pause everybody is told the same, in his own words', async () => {
  const { gate, clock } = gateAt()
  await fails(gate)
  clock.now += 200
  const attempt = () => Promise.reject(new Error('never made'))
  await expect(gate.pass(dwh, attempt)).rejects.toMatchObject({
    code: 'destination_unreachable',
    object: 'dwh',
    retryable: true,
    message: 'refused (That try failed 0.2 s ago; the next one is made in 0.3 s.)',
    remedy: expect.stringContaining('server runs'),
  })
  const refused = new Failure('authentication_failed', {
    message: 'no',
    object: 'crm',
    sqlstate: '28P01',
    remedy: 'ask',
  })
  const other = new ConnectGate()
  await fails(other, refused)
  await expect(other.pass(dwh, attempt)).rejects.toMatchObject({
    code: 'authentication_failed',
    object: 'dwh',
    sqlstate: '28P01',
    retryable: false,
    remedy: 'ask',
  })
})

test('after a pause one try is let through; whoever comes meanwhile shares its outcome', async () => {
  const { gate, clock } = gateAt()
  await fails(gate)
  clock.now += 600
  const first = Promise.withResolvers<string>()
  const tried = gate.pass(dwh, () => first.promise)
  const second = gate.pass(dwh, async () => 'second')
  first.resolve('first')
  expect(await Promise.all([tried, second])).toEqual(['first', 'second'])
  await fails(gate)
  clock.now += 600
  const again = Promise.withResolvers<string>()
  const failing = expect(gate.pass(dwh, () => again.promise)).rejects.toBe(dead)
  const waiting = expect(gate.pass(dwh, async () => 'never')).rejects.toThrow('That try failed')
  again.reject(dead)
  await Promise.all([failing, waiting])
})

test('a try that takes long holds others up for a second only', async () => {
  const { gate, clock } = gateAt()
  await fails(gate)
  clock.now += 600
  const slow = Promise.withResolvers<string>()
  const trying = gate.pass(dwh, () => slow.promise)
  const waiting = gate.pass(dwh, async () => 'never')
  clock.now += 1000
  await expect(waiting).rejects.toThrow('another one is being made now')
  slow.resolve('in')
  expect(await trying).toBe('in')
})

test('success opens it, and forgets how long it was closed', async () => {
  const { gate, clock } = gateAt()
  for (let round = 0; round < 20; round += 1) {
    await fails(gate)
    clock.now += 40_000
  }
  expect(await gate.pass(dwh, async () => 'in')).toBe('in')
  await fails(gate)
  clock.now += 600
  expect(await gate.pass(dwh, async () => 'in')).toBe('in')
})

test('a few at a time while all is well; a failure ends the wait of the others', async () => {
  const { gate } = gateAt()
  const attempts: PromiseWithResolvers<string>[] = []
  const all = Array.from({ length: 10 }, () => {
    return gate.pass(dwh, () => {
      const attempt = Promise.withResolvers<string>()
      attempts.push(attempt)
      return attempt.promise
    })
  })
  await expect.poll(() => attempts.length).toBe(4)
  attempts[0]?.resolve('in')
  await expect.poll(() => attempts.length).toBe(5)
  attempts[1]?.reject(dead)
  const waiting = await Promise.allSettled(all.slice(5))
  expect(waiting.map((end) => end.status)).toEqual(Array.from({ length: 5 }, () => 'rejected'))
  for (const attempt of attempts) attempt.resolve('in')
  const running = await Promise.allSettled(all.slice(0, 5))
  expect(running.filter((end) => end.status === 'rejected')).toHaveLength(1)
  expect(attempts).toHaveLength(5)
})

test('a failure of a try that began before the last success, a cancellation or a bug close nothing', async () => {
  const { gate, clock } = gateAt()
  const slow = Promise.withResolvers<string>()
  const trying = expect(gate.pass(dwh, () => slow.promise)).rejects.toBe(dead)
  clock.now += 1000
  await gate.pass(dwh, async () => 'in')
  slow.reject(dead)
  await trying
  expect(await gate.pass(dwh, async () => 'in')).toBe('in')
  await fails(gate, new Failure('cancelled', { message: 'Cancelled.' }))
  await expect(gate.pass(dwh, () => Promise.reject(new TypeError('bug')))).rejects.toThrow('bug')
  expect(await gate.pass(dwh, async () => 'in')).toBe('in')
})

test('whoever waits leaves when he is cancelled, and the others stay', async () => {
  const { gate } = gateAt()
  const held = Promise.withResolvers<string>()
  const running = Array.from({ length: 4 }, () => gate.pass(dwh, () => held.promise))
  const controller = new AbortController()
  const leaving = gate.pass({ ...dwh, signal: controller.signal }, async () => 'never')
  const staying = gate.pass(dwh, async () => 'in')
  controller.abort()
  await expect(leaving).rejects.toMatchObject({ code: 'cancelled', object: 'dwh' })
  held.resolve('in')
  expect(await Promise.all([...running, staying])).toEqual(Array.from({ length: 5 }, () => 'in'))
})

test('is forgotten when nobody asks and nothing was said for a while', async () => {
  const { gate, clock } = gateAt()
  expect(gate.isForgettable).toBe(true)
  const held = Promise.withResolvers<string>()
  const running = gate.pass(dwh, () => held.promise)
  expect(gate.isForgettable).toBe(false)
  held.resolve('in')
  await running
  await fails(gate)
  expect(gate.isForgettable).toBe(false)
  clock.now += 31_000
  expect(gate.isForgettable).toBe(true)
})
