import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { changeBindings, readBindings } from '../placement/bindings.ts'

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

/** Makes these all bindings there are, as `binding apply` does. */
export async function applyDemoBindings({ session }: Control): Promise<void> {
  const bindings = await readBindings(session, 'demo-bindings.csv', Buffer.from(demoBindings))
  const request = { kind: 'all', bindings } as const
  const { applied, plan } = await changeBindings(session, request, { mayStrand: [], dryRun: false })
  if (!applied) throw new Failure('site_stranded', { message: plan.refusal ?? 'No host may run a site.' })
}
