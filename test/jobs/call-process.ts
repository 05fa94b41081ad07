import { armCrashPoint } from '../../src/base/crash-point.ts'
import { callJob, type JobCall } from '../../src/jobs/call.ts'
import type { EarlierSession } from '../../src/jobs/fence.ts'
import { connect } from '../../src/postgres/connect.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'

/** What a process of its own is to call; the first argument, as JSON. */
export interface CallProcess {
  readonly url: string
  readonly call: JobCall
  readonly earlier: readonly EarlierSession[]
  readonly crashAt: string | null
}

const { url, call, earlier, crashAt } = JSON.parse(process.argv[2] ?? '') as CallProcess
armCrashPoint(crashAt ?? undefined)
const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`)

try {
  const outcome = await callJob(call, {
    connector: (purpose) => connect(parseConnectionUrl(url), { side: 'database', purpose, object: 'warehouse' }),
    reporter: { step: () => ({ progress: () => undefined, done: () => undefined }) },
    claimSession: async (pid, backendStart) => {
      say({ claimed: { pid, backendStart } })
      return { mine: true, earlier }
    },
    nextStart: () => undefined,
    unknown: (reason) => void say({ unknown: reason }),
    signal: new AbortController().signal,
  })
  say({ outcome })
} catch (error) {
  const { code, message } = error as { code?: string; message: string }
  say({ failed: { code, message } })
}
