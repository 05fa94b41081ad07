import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { expect, inject } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'
import { Shop } from './shop.ts'

/** A control database with hosts that are up for as long as the test says, files of bindings, and commands. */
export class BindingDesk extends Shop {
  readonly #folder = mkdtempSync(join(inject('runDirectory'), 'bindings-'))
  readonly #workers = new Map<string, pg.Client>()

  /** A worker that takes nothing, with a lease that outlives the test. */
  async up(...hosts: string[]): Promise<void> {
    for (const host of hosts) {
      const session = await this.control.client()
      await session.query(`select yardmaster.register_worker($1, $2, 4)`, [`${host}#1`, host])
      await session.query(`update yardmaster.worker set lease_until = now() + interval '1 hour' where host = $1`, [
        host,
      ])
      this.#workers.set(host, session)
    }
  }

  async down(host: string): Promise<void> {
    await this.#workers.get(host)?.end()
    await this.control.query(`update yardmaster.worker set ended_at = now() where host = $1`, [host])
  }

  /** The path of a file with these rows behind the header; or of exactly this text. */
  file(content: string | readonly string[], name = 'workers.csv'): string {
    const path = join(this.#folder, name)
    writeFileSync(path, typeof content === 'string' ? content : ['site,host,binding', ...content, ''].join('\n'))
    return path
  }

  /** `site host binding` of all that is bound. */
  async bound(): Promise<string[]> {
    const rows = await this.control.query<{ pair: string }>(
      `select format('%s %s %s', site, host, binding) as pair from yardmaster.bindings order by site, host`,
    )
    return rows.map(({ pair }) => pair)
  }

  /** On a terminal that somebody sits at. */
  terminal(environment: Record<string, string> = {}): FakeTerminal {
    return new FakeTerminal({ columns: 160, environment: { ...this.environment, ...environment } })
  }
}

export async function openBindingDesk(label: string): Promise<BindingDesk> {
  const control: TestDatabase = await createDatabase(label)
  const desk = new BindingDesk(control, control, control)
  const { code } = await desk.run('migrate')
  expect(code).toBe(0)
  return desk
}
