import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'

/** Pauses jobs whose owner is no role of the control server any more; returns how many. */
export async function pauseOrphans(control: Control): Promise<number> {
  const row = await control.perform(
    (session) => session.one<{ paused: number }>(sql`select yardmaster.pause_orphans() as paused`),
    0,
  )
  return row.paused
}
