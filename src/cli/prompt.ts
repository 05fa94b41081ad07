import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { Failure } from '../base/failure.ts'
import type { CommandContext } from './command-context.ts'

/**
 * Asks one question on the terminal and waits for a line. `hidden` shows nothing of what is typed. Ctrl-C and the end of
 * the input cancel. Only where `terminal.interactive` says that somebody is there. Throws `cancelled`.
 */
export async function askLine(context: CommandContext, question: string, hidden = false): Promise<string> {
  const cancel = new AbortController()
  const output = hidden ? silence() : context.err
  if (hidden) context.err.write(question)
  const prompt = createInterface({ input: context.in, output, terminal: true })
  // In raw mode Ctrl-C is a key like others, and the end of the input leaves a question open for ever.
  prompt.once('SIGINT', () => {
    context.interrupt()
    cancel.abort()
  })
  prompt.once('close', () => cancel.abort())
  try {
    return await prompt.question(hidden ? '' : question, { signal: AbortSignal.any([context.signal, cancel.signal]) })
  } catch (error) {
    throw new Failure('cancelled', { message: 'Cancelled; nothing was done.', cause: error })
  } finally {
    prompt.close()
    if (hidden) context.err.write('\n')
  }
}

function silence(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() })
}
