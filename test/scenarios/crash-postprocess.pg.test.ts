import { expect, test } from 'vitest'
import type { CrashPoint } from '../../src/base/crash-point.ts'
import { addJob, counted, deploymentFile, installHdbpp, postprocess, stats } from '../cli/postprocess-deployment.ts'
import { createDatabase } from '../support/databases.ts'
import { runCli } from '../support/process.ts'

/** Where it is killed, how often the procedure was called after one more pass, and how many of these were counted. */
const points: readonly (readonly [CrashPoint, calls: number, runs: number])[] = [
  ['postprocess-before-call', 1, 1],
  // What was called and could not be counted any more is called again by the next pass: at least once.
  ['postprocess-after-call', 2, 1],
  ['postprocess-after-stats', 2, 2],
]

test.each(points)(
  'killed at %s: the next pass does not wait, calls all jobs and counts them',
  async (point, calls, runs) => {
    const database = await createDatabase('crash postprocess')
    await installHdbpp(database)
    const [first, second] = [await addJob(database, 'works'), await addJob(database, 'works')]
    const file = deploymentFile({ accelerator: database.url })
    const { signal } = await runCli(['postprocess', '-c', file], { env: { YARDMASTER_CRASH_AT: point } })
    expect(signal).toBe('SIGKILL')
    const { code, err } = await postprocess(file)
    expect(code, err).toBe(0)
    const [called] = await database.query('select count(*)::int from calls where job_id = $1', [first])
    expect(called).toEqual({ count: calls })
    expect(await stats(database)).toEqual([counted(first, true, [runs, runs]), counted(second, true, [1, 1])])
  },
)
