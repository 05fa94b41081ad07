import { expect, onTestFinished } from 'vitest'
import type { CliResult, RunningCli } from '../support/process.ts'
import type { FaultProxy } from '../support/proxy.ts'
import type { Stage } from './stage.ts'

/** Where a refresh can be held for as long as a test likes: by a slow network, by a lock in its way, by a reader. */
export type Phase = 'load' | 'index' | 'swap'

/** A command of a large snapshot that stands still in one phase. */
export class HeldRefresh {
  readonly stage: Stage
  readonly running: RunningCli
  readonly #proxy: FaultProxy
  readonly #holds: (() => Promise<unknown>)[] = []

  private constructor(stage: Stage, running: RunningCli, proxy: FaultProxy) {
    this.stage = stage
    this.running = running
    this.#proxy = proxy
  }

  /** Starts a command and returns when it stands in that phase. `proxy` is the way to the stage's source. */
  static async start(
    stage: Stage,
    proxy: FaultProxy,
    phase: Phase,
    args = ['replication', 'refresh', 'copies.goods', '--force', '--json'],
  ): Promise<HeldRefresh> {
    const reader = phase === 'swap' ? await stage.destination.client() : undefined
    await reader?.query('begin')
    await reader?.query('select count(*) from copies.goods')
    const copying = Promise.withResolvers<void>()
    if (phase === 'swap') copying.resolve()
    else {
      proxy.when('toServer', 'copy (', () => {
        proxy.set('toClient', { kind: 'rate', bytesPerSecond: 100_000 })
        copying.resolve()
      })
    }
    const held = new HeldRefresh(stage, stage.start(args), proxy)
    onTestFinished(() => held.#letGo())
    if (reader) held.#holds.push(() => reader.query('commit'))
    await held.reaches(phase === 'swap' ? 'swap' : 'load')
    await copying.promise
    if (phase === 'index') await held.#lockIdleTable()
    return held
  }

  /** A lock that rows may be loaded under, but no index be built. */
  async #lockIdleTable(): Promise<void> {
    const blocker = await this.stage.destination.client()
    const found = await blocker.query(
      `select 3 - coalesce((state ->> 'live')::int, 2) as idle from yardmaster.position`,
    )
    await blocker.query('begin')
    await blocker.query(`lock table copies.goods_snap${found.rows[0].idle} in row exclusive mode`)
    this.#holds.push(() => blocker.query('commit'))
    this.#proxy.set('both', { kind: 'pass' })
    await this.reaches('index')
    await expect
      .poll(
        () =>
          this.stage.destination.query(
            `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like 'CREATE%INDEX%'`,
          ),
        { timeout: 10_000, interval: 10 },
      )
      .not.toEqual([])
  }

  /** Resolves when this step of the newest run goes on. */
  async reaches(action: string): Promise<void> {
    await expect
      .poll(
        async () => {
          const rows = await this.stage.controlDatabase.query(
            `select action from yardmaster.steps where status = 'RUNNING' order by run_id desc, ordinal desc limit 1`,
          )
          return rows[0]?.action ?? this.running.stderr()
        },
        { timeout: 10_000, interval: 10 },
      )
      .toBe(action)
  }

  /** Lets go of what holds it, and resolves when the command has ended. */
  async release(): Promise<CliResult> {
    await this.#letGo()
    return this.running.ended
  }

  async #letGo(): Promise<void> {
    this.#proxy.set('both', { kind: 'pass' })
    for (const hold of this.#holds.splice(0)) await hold().catch(() => undefined)
  }
}
