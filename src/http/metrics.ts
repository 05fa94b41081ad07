import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { Control } from '../control/control.ts'
import { metricsType, readMetrics } from '../monitoring/metrics.ts'
import { sql } from '../postgres/sql.ts'
import { toFailure } from '../postgres/sqlstate.ts'

/** Adds what machines ask. */
export type Routes = (server: FastifyInstance) => void

/** Paths that tell nothing about anybody's data: whoever probes them may name us as they like. */
export const probePaths: readonly string[] = ['/healthz', '/readyz']

/**
 * `/metrics` for Prometheus, `/healthz` (this process answers) and `/readyz` (its control database does; else 503 with a code).
 * `/metrics` names copies, so it is for whoever asks by address, as the page is.
 */
export function machineRoutes(control: Control): Routes {
  const file = new URL('../../package.json', import.meta.url)
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
  let reading: Promise<string> | undefined
  // Everybody who asks while they are being read gets the same ones.
  const read = () => {
    reading ??= readMetrics(control, version).finally(() => {
      reading = undefined
    })
    return reading
  }
  return (server) => {
    server.get('/healthz', async () => ({ status: 'ok', version }))
    server.get('/readyz', async (_, reply) => {
      try {
        await control.perform((session) => session.query(sql`select 1`), 0)
        return { status: 'ready' }
      } catch (error) {
        void reply.code(503)
        // Not which server said what: anybody may ask.
        return { status: 'not_ready', code: toFailure(error, { side: 'control' }).code }
      }
    })
    server.get('/metrics', async (_, reply) => {
      try {
        const text = await read()
        return reply.type(metricsType).send(text)
      } catch (error) {
        void reply.code(503)
        return { error: toFailure(error, { side: 'control', object: 'the control database' }) }
      }
    })
  }
}
