import { Failure } from '../base/failure.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import type { CommandContext } from './command-context.ts'
import { askLine } from './prompt.ts'

/**
 * Does `work` with a URL; where its server wants a password that the URL has not, and somebody is at the terminal, asks for
 * it once, unseen, and does it again with the whole URL. References (`env:`, `file:`) are never asked for.
 */
export async function withPassword<Result>(
  context: CommandContext,
  url: string,
  work: (url: string) => Promise<Result>,
): Promise<Result> {
  try {
    return await work(url)
  } catch (error) {
    const canAsk = context.terminal.interactive && /^postgres(ql)?:/.test(url)
    if (!canAsk || !(error instanceof Failure) || error.code !== 'authentication_failed') throw error
    const { user, host, port, password } = parseConnectionUrl(url)
    if (password !== undefined) throw error
    const answer = await askLine(context, `Password of ${user} at ${host}:${port} (it is not shown): `, true)
    if (answer === '') throw error
    return work(url.replace(/^(postgres(?:ql)?:\/\/[^@/]*)@/, `$1:${encodeURIComponent(answer)}@`))
  }
}
