import { beforeAll, describe, expect, it } from 'vitest'
import { decideNextStarts } from '../../src/jobs/next-starts.ts'
import { JobsDesk } from './timescaledb-desk.ts'

/** No worker: next starts are decided as one does, and nothing is run. Dates are far ahead, so that none is due. */
let desk: JobsDesk

beforeAll(async () => {
  desk = await JobsDesk.open('starts')
})

async function next(id: number): Promise<string | undefined> {
  await decideNextStarts(desk.control)
  const { next_start: start } = await desk.job(id)
  return start instanceof Date ? start.toISOString().replace('.000Z', 'Z') : String(start)
}

const alter = (id: number, args: string) => desk.database.query(`select * from yardmaster.alter_job(${id}, ${args})`)

/** Five hours, fixed, with an origin on 2031-01-01; last run on 2031-03-10 from 07:00 to 07:10. */
async function fixed(more = ''): Promise<number> {
  const id = await desk.add(`'works', '5 h', initial_start => '2031-01-01 00:00+00'${more}`)
  await desk.remember(id, '2031-03-10 07:10+00')
  return id
}

describe('the first start', () => {
  it('of a fixed schedule is its initial_start, of a drifting one too', async () => {
    expect(await next(await desk.add(`'works', '5 h', initial_start => '2031-01-01 00:00+00'`))).toBe(
      '2031-01-01T00:00:00Z',
    )
    expect(
      await next(await desk.add(`'works', '5 h', initial_start => '2031-01-01 00:00+00', fixed_schedule => false`)),
    ).toBe('2031-01-01T00:00:00Z')
  })

  it.each(['true', 'false'])('is at once where nothing is said, fixed_schedule => %s', async (fixedSchedule) => {
    const id = await desk.add(`'works', '5 h', fixed_schedule => ${fixedSchedule}`)
    await decideNextStarts(desk.control)
    const [{ due }] = await desk.database.query(
      'select next_start <= clock_timestamp() as due from yardmaster.jobs where job_id = $1',
      [id],
    )
    expect(due).toBe(true)
  })

  it.each(['178000000 years', '2147483647 days'])(
    'an interval of %s pauses its job, and stands in nobody else’s way',
    async (interval) => {
      const never = await desk.add(`'works', '${interval}', fixed_schedule => false`)
      await desk.remember(never, '2031-03-10 07:10+00')
      const other = await fixed()
      expect(await next(other)).toBe('2031-03-10T08:00:00Z')
      expect(await next(never)).toBe('null')
      expect(await desk.job(never)).toMatchObject({
        status: 'paused',
        pause_note: `Its schedule: The interval '${interval}' is longer than 1,000 years.`,
      })
    },
  )
})

it('what cannot be decided pauses its job, and stands in nobody else’s way', async () => {
  const bad = await desk.add(`'works', '1 h', fixed_schedule => false`)
  // As no function of ours lets it be.
  await desk.database.query(`update yardmaster.job set schedule_origin = 'infinity' where id = $1`, [bad])
  const other = await fixed()
  expect(await next(other)).toBe('2031-03-10T08:00:00Z')
  expect(await desk.job(bad)).toMatchObject({
    status: 'paused',
    pause_note: expect.stringMatching(/^Its schedule: no next start can be told \(/),
  })
})

describe('the next start after a success', () => {
  it('of a fixed schedule is on its grid, of a drifting one so long after the end', async () => {
    expect(await next(await fixed())).toBe('2031-03-10T08:00:00Z')
    expect(await next(await fixed(', fixed_schedule => false'))).toBe('2031-03-10T12:10:00Z')
  })
})

describe('the next start after alter_job', () => {
  it.each([
    // TimescaleDB's: from the last end, also where the schedule is fixed.
    [`schedule_interval => '2 h'`, '2031-03-10T09:10:00Z'],
    [`fixed_schedule => false`, '2031-03-10T12:10:00Z'],
    [`initial_start => '2031-01-01 02:00+00'`, '2031-03-10T10:00:00Z'],
    // An origin that is to come.
    [`initial_start => '2031-06-01 02:00+00'`, '2031-06-01T02:00:00Z'],
    [`next_start => '2031-04-01 00:00+00'`, '2031-04-01T00:00:00Z'],
    [`next_start => 'infinity'`, 'Infinity'],
    // The last argument to be looked at.
    [
      `schedule_interval => '2 h', timezone => 'Asia/Kolkata', next_start => '2031-04-01 00:00+00'`,
      '2031-04-01T00:00:00Z',
    ],
    // What says nothing about time leaves it alone.
    [
      `max_runtime => '1 s', max_retries => 3, retry_period => '1 s', config => '{"a": 1}', job_name => 'x'`,
      '2031-03-10T08:00:00Z',
    ],
    [`scheduled => true`, '2031-03-10T08:00:00Z'],
  ])('%s: %s', async (args, expected) => {
    const id = await fixed()
    await decideNextStarts(desk.control)
    await alter(id, args)
    expect(await next(id)).toBe(expected)
  })

  it('of the time zone moves the slots to its days', async () => {
    const id = await desk.add(`'works', '1 day', initial_start => '2031-01-01 00:00+00'`)
    await desk.remember(id, '2031-07-10 07:10+00')
    expect(await next(id)).toBe('2031-07-11T00:00:00Z')
    // Midnight in London's winter is 23:00 in UTC in summer.
    await alter(id, `timezone => 'Europe/London'`)
    expect(await next(id)).toBe('2031-07-10T23:00:00Z')
  })

  it('a start that was set before anybody found the procedure is kept, infinity too', async () => {
    for (const [said, expected] of [
      ['2031-04-01 00:00+00', '2031-04-01T00:00:00Z'],
      ['infinity', 'Infinity'],
    ]) {
      const [{ id }] = await desk.database.query(`select yardmaster.add_job('works', '1 h') as id`)
      await alter(id, `next_start => '${said}'`)
      await desk.settle(id)
      expect((await desk.job(id)).status).toBe('active')
      expect(await next(id)).toBe(expected)
    }
  })

  it('a job at infinity stays there while its config is checked anew', async () => {
    const id = await fixed(`, check_config => 'looks'`)
    await alter(id, `next_start => 'infinity'`)
    await alter(id, `config => '{"a": 1}'`)
    expect((await desk.job(id)).status).toBe('unverified')
    await desk.settle(id)
    expect(await next(id)).toBe('Infinity')
  })

  it('a start that was set while the job was paused counts when it goes on, else its schedule does', async () => {
    const id = await fixed()
    await alter(id, `scheduled => false`)
    expect(await next(id)).toBe('null')
    await alter(id, `next_start => '2031-04-01 00:00+00'`)
    expect((await desk.stats(id)).next_start).toBeNull()
    await alter(id, `scheduled => true`)
    expect(await next(id)).toBe('2031-04-01T00:00:00Z')
    await alter(id, `scheduled => false`)
    await alter(id, `scheduled => true`)
    expect(await next(id)).toBe('2031-03-10T08:00:00Z')
  })

  it('another database with the tag leaves those alone that have it already', async () => {
    await desk.database.query(`select yardmaster.alter_database('dwh', tags => '{both}')`)
    const id = await desk.add(`'works', '5 h', database => 'tag:both'`)
    await alter(id, `next_start => 'infinity'`)
    await desk.database.query(`select yardmaster.add_database('crm', 'env:CRM', '{both}')`)
    await decideNextStarts(desk.control)
    expect(
      await desk.database.query(
        `select database, next_start = 'infinity' as never from yardmaster.job_stats where job_id = $1 order by 1`,
        [id],
      ),
    ).toEqual([
      { database: 'crm', never: false },
      { database: 'dwh', never: true },
    ])
    await desk.database.query('select yardmaster.delete_job($1), yardmaster.remove_database($2)', [id, 'crm'])
  })
})

describe('days are those of the time zone', () => {
  it.each([
    // 02:30 is skipped on 30 March, and comes twice on 26 October.
    ['Europe/Berlin', '2031-03-28 01:30+00', ['2031-03-29T01:30:00Z', '2031-03-30T01:30:00Z', '2031-03-31T00:30:00Z']],
    ['Europe/Berlin', '2031-10-24 00:30+00', ['2031-10-25T00:30:00Z', '2031-10-26T00:30:00Z', '2031-10-27T01:30:00Z']],
  ])('a job at 02:30 in %s after %s runs once on each day', async (timezone, finish, expected) => {
    const id = await desk.add(`'works', '1 day', initial_start => '2031-01-01 01:30+00', timezone => '${timezone}'`)
    await desk.remember(id, finish)
    const starts: (string | undefined)[] = []
    for (const _ of expected) {
      const start = await next(id)
      starts.push(start)
      // It took a minute. The zone survives.
      await alter(id, 'max_retries => 7')
      await desk.database.query(
        `update yardmaster.job_state set last_slot = $2, last_start = $2, last_finish = $2::timestamptz + interval '1 minute',
        next_start = null, next_slot = null where job_id = $1`,
        [id, start],
      )
    }
    expect(starts).toEqual(expected)
  })

  it('months are those of the calendar', async () => {
    const id = await desk.add(`'works', '1 month', initial_start => '2031-01-31 00:00+00'`)
    await desk.remember(id, '2031-01-31 00:10+00')
    expect(await next(id)).toBe('2031-02-28T00:00:00Z')
    await desk.remember(id, '2031-02-28 00:10+00')
    expect(await next(id)).toBe('2031-03-31T00:00:00Z')
  })
})

describe('after failures', () => {
  const failed = (id: number, failures: number) => desk.remember(id, '2031-03-10 07:10+00', `, failures = ${failures}`)
  const minutesAfter = async (id: number) => {
    const start = await next(id)
    return (Date.parse(String(start)) - Date.parse('2031-03-10T07:10:00Z')) / 60_000
  }

  it.each([
    // Drifting, so that no slot comes before: linear, at most 20 periods and 5 intervals.
    ["'1 day'", "'10 minutes'", 1, 10],
    ["'1 day'", "'10 minutes'", 3, 30],
    ["'1 day'", "'10 minutes'", 50, 200],
    ["'10 minutes'", "'30 minutes'", 7, 50],
  ])(
    'every %s with a retry period of %s: after %i it is %i minutes, give or take an eighth',
    async (interval, period, failures, minutes) => {
      const id = await desk.add(
        `'works', ${interval}, fixed_schedule => false, initial_start => '2031-01-01', retry_period => ${period}`,
      )
      const seen: number[] = []
      for (let n = 0; n < 20; n += 1) {
        await failed(id, failures)
        seen.push(await minutesAfter(id))
      }
      expect(Math.min(...seen)).toBeGreaterThanOrEqual(minutes * (113 / 128) - 0.001)
      expect(Math.max(...seen)).toBeLessThanOrEqual(minutes * (144 / 128) + 0.001)
      expect(new Set(seen).size).toBeGreaterThan(5)
    },
  )

  it('not later than the next slot of a fixed schedule', async () => {
    const id = await desk.add(`'works', '1 minute', initial_start => '2031-01-01 00:00:30+00'`)
    await failed(id, 1)
    expect(await next(id)).toBe('2031-03-10T07:10:30Z')
  })

  it.each([
    ['', 5],
    [`, retry_on_crash => '2 minutes'`, 2],
    [`, retry_on_crash => 'now'`, 0],
  ])('a lost worker%s: at least %i minutes', async (said, minutes) => {
    const id = await desk.add(
      `'works', '1 day', fixed_schedule => false, initial_start => '2031-01-01', retry_period => '1 second'${said}`,
    )
    await desk.remember(id, '2031-03-10 07:10+00', `, failures = 1, crashed = true`)
    const waited = await minutesAfter(id)
    expect(waited).toBeGreaterThanOrEqual(minutes)
    expect(waited).toBeLessThan(minutes + 0.1)
  })
})
