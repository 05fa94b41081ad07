import type { Control } from '../control/control.ts'
import { sql } from '../postgres/sql.ts'
import { parseCsv } from './datasets.ts'

/** Hosts of the demo: three processes that bear their names. */
export const demoHosts = ['marketing', 'qa', 'ceo'] as const

/**
 * The guide's one-way fallback, as the file that `binding apply` reads: Marketing has a host of its own and falls back to
 * qa, never to ceo; QA has a host of its own and no other; CEO falls back to any.
 */
export const demoBindings = `site,host,binding
Marketing,marketing,prefer
Marketing,ceo,forbid
QA,qa,prefer
QA,ceo,forbid
QA,marketing,forbid
CEO,ceo,prefer
`

/** Makes these all bindings there are. */
export async function applyDemoBindings(control: Control): Promise<void> {
  const wanted = JSON.stringify(parseCsv(demoBindings))
  await control.session.query(sql`select yardmaster.set_bindings(${wanted}::jsonb)`)
}
