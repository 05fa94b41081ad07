import { type ErrorCode, errorRegistry } from './error-registry.ts'

/** What a failure says beside its code. `object` is the thing it happened to, e.g. `dwh:public.orders`. */
export interface FailureDetail {
  message: string
  object?: string | undefined
  /** Overrides the registry's general remedy with one that has the values filled in. */
  remedy?: string | undefined
  cause?: unknown
  /** True where the same call may succeed later without anybody doing anything. */
  retryable?: boolean
  sqlstate?: string | undefined
  /** What it is made of, where that is several things: all lines of a file that cannot be read. */
  errors?: readonly object[] | undefined
}

/** The same object on every face: `{"error": {code, message, object, remedy}}`. */
export interface FailureJson {
  code: ErrorCode
  message: string
  object: string | null
  remedy: string
  errors?: readonly object[]
}

/** Every error that a user can meet. The code is one of `errorRegistry`. */
export class Failure extends Error {
  readonly code: ErrorCode
  readonly object: string | null
  readonly remedy: string
  readonly retryable: boolean
  readonly sqlstate: string | undefined
  readonly errors: readonly object[] | undefined

  constructor(code: ErrorCode, detail: FailureDetail) {
    super(detail.message, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.name = 'Failure'
    this.code = code
    this.object = detail.object ?? null
    this.remedy = detail.remedy ?? errorRegistry[code].remedy
    this.retryable = detail.retryable ?? false
    this.sqlstate = detail.sqlstate
    this.errors = detail.errors
  }

  toJSON(): FailureJson {
    const { code, message, object, remedy, errors } = this
    return { code, message, object, remedy, ...(errors ? { errors } : {}) }
  }
}

/** Exit code of a command that ended with this failure: 2 for wrong usage, else 1. */
export function exitCodeOf(failure: Failure): 1 | 2 {
  return errorRegistry[failure.code].exit ?? 1
}
