import { Failure } from '../base/failure.ts'
import { withoutPasswords } from '../postgres/connection-url.ts'
import { printableJson, printableLines } from '../postgres/identifier.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import type { Surroundings } from './command-context.ts'

/** Whatever ended a command, as a failure of the registry. */
export function asFailure(error: unknown, signal: AbortSignal): Failure {
  if (signal.aborted && !(error instanceof Failure))
    return new Failure('cancelled', { message: 'Cancelled.', cause: error })
  return toFailure(error, { side: 'control' })
}

/** `Error [code] object: message` and the remedy on stderr; with --json the error object on stdout. */
export function report(failure: Failure, surroundings: Surroundings, how: { json: boolean; debug: boolean }): void {
  const { out, err } = surroundings
  // The last net: a URL that stands where no URL belongs (arguments in the wrong order) is shown without its password.
  const say = (text: string) => err.write(printableLines(withoutPasswords(text)))
  if (how.json) out.write(`${printableJson(withoutPasswords(JSON.stringify({ error: failure })))}\n`)
  else {
    const known = failure.object === null || failure.message.includes(failure.object)
    say(
      `Error [${failure.code}]${known ? '' : ` ${failure.object}:`} ${failure.message}\n` +
        `Remedy: ${failure.remedy}\nMore: yardmaster help error ${failure.code}\n`,
    )
  }
  if (!how.debug) return
  say(`${failure.stack}\n${failure.cause instanceof Error ? `Cause: ${failure.cause.stack}\n` : ''}`)
}
