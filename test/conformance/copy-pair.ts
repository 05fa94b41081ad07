import { afterAll, expect } from 'vitest'
import { type Control, openControl } from '../../src/control/control.ts'
import { addDatabase } from '../../src/control/databases.ts'
import { loadSecretKey } from '../../src/control/secret-key.ts'
import { RunRecorder } from '../../src/monitoring/run-recorder.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'
import type { QualifiedName } from '../../src/postgres/identifier.ts'
import { sql } from '../../src/postgres/sql.ts'
import { definitionDefaults, type ReplicationType } from '../../src/replication/definition.ts'
import { getReplicationByJob, type NewReplication } from '../../src/replication/store.ts'
import { addReplicationRun, refreshRun } from '../../src/worker/replication-run.ts'
import type { RunResult } from '../../src/worker/run-outcome.ts'
import type { Workplace } from '../../src/worker/workplace.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { conformingTypes } from './replication-types.ts'

const key = '17'.repeat(32)
const controls: Control[] = []

afterAll(async () => {
  for (const control of controls) await control.close()
})

/** A source and a destination, registered as `crm` and `dwh`, between which the test's own process copies. */
export class CopyPair {
  readonly source: TestDatabase
  readonly destination: TestDatabase
  /** What a command line needs to work with the same registration. */
  readonly environment: Record<string, string>
  readonly #control: Control
  readonly #recorder: RunRecorder

  private constructor(source: TestDatabase, destination: TestDatabase, control: Control, controlUrl: string) {
    this.source = source
    this.destination = destination
    this.#control = control
    this.#recorder = new RunRecorder(control, { name: `test#${process.pid}`, host: 'here', slots: 0 })
    this.environment = {
      YARDMASTER_CONTROL_URL: controlUrl,
      YARDMASTER_KEY: key,
      YARDMASTER_DATA_DIR: '/nonexistent',
    }
  }

  static async between(source: TestDatabase, destination: TestDatabase): Promise<CopyPair> {
    const own = await createDatabase('control')
    const control = await openControl({
      parts: parseConnectionUrl(own.url),
      actor: 'test@here',
      face: 'CLI',
      key: loadSecretKey({ text: key, file: '/nonexistent' }),
    })
    controls.push(control)
    await addDatabase(control, 'crm', source.url, [])
    await addDatabase(control, 'dwh', destination.url, [])
    return new CopyPair(source, destination, control, own.url)
  }

  /** Sets a replication up; its first copy is pulled unless the destination table stood there. Throws what failed it. */
  async add(
    type: ReplicationType,
    source: QualifiedName,
    destination: QualifiedName,
    more: Partial<NewReplication> = {},
  ): Promise<Copy> {
    const conforming = conformingTypes.find((one) => one.type === type)
    const wanted: NewReplication = {
      ...definitionDefaults,
      type,
      sourceDatabase: 'crm',
      source,
      destinationDatabase: 'dwh',
      destination,
      swapWait: 5000,
      ...conforming?.definition,
      ...more,
    }
    const { replication, result } = await addReplicationRun(this.#place(), wanted)
    if (result.failure) throw result.failure
    if (!replication) throw new Error('nothing was registered')
    const { jobId } = replication
    const copy: Copy = {
      first: result,
      refresh: async (force = true) => {
        const current = await getReplicationByJob(this.#control, jobId)
        const again = await refreshRun(this.#place(), current, {
          ...{ force, wait: 0, takeOver: false },
          repull: conforming?.repull ?? null,
        })
        if (again.failure) throw again.failure
        expect(again.status, again.message).toBe('OK')
        return again
      },
      formatOf: (run) => this.#formatOf(run),
    }
    return copy
  }

  #place(): Workplace {
    return {
      control: this.#control,
      environment: () => undefined,
      signal: new AbortController().signal,
      recorder: this.#recorder,
      streams: 2,
    }
  }

  async #formatOf(run: RunResult): Promise<string | undefined> {
    const step = await this.#control.session.one<{ message: string }>(
      sql`select message from yardmaster.steps where run_id = ${run.run_id} and action in ('plan', 'range')`,
    )
    return /^(binary|text) copy/.exec(step.message)?.[1]
  }
}

/** A replication that was set up. */
export interface Copy {
  readonly first: RunResult
  /** Refreshes it, by default even if nothing changed. Throws what failed it; fails the test when it ends other than OK. */
  refresh(force?: boolean): Promise<RunResult>
  /** Which form of COPY a run used, as its log says. */
  formatOf(run: RunResult): Promise<string | undefined>
}
