import type { ErrorCode } from '../base/error-registry.ts'
import { Failure } from '../base/failure.ts'

/** What a function of the control schema refuses with: something unknown, not possible now, a bad value. */
type Refusal = 'YM001' | 'YM002' | 'YM003'

/**
 * What the control schema refused, as a failure of its own code; anything else as it is. A hint of the schema is the remedy, else,
 * of wrong usage, the one that is given.
 */
export function asRefusal(
  error: unknown,
  codes: Partial<Record<Refusal, ErrorCode>>,
  about: { object: string; remedy?: string },
): unknown {
  if (!(error instanceof Failure)) return error
  const code = codes[error.sqlstate as Refusal]
  if (code === undefined) return error
  const { hint } = (error.cause ?? {}) as { hint?: string }
  const remedy = hint ?? (code === 'wrong_usage' ? about.remedy : undefined)
  return new Failure(code, {
    message: error.message,
    object: about.object,
    ...(remedy === undefined ? {} : { remedy }),
    sqlstate: error.sqlstate,
    cause: error,
  })
}
