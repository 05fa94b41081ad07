import { Failure } from '../base/failure.ts'
import type { CommandContext } from './command-context.ts'
import { askLine } from './prompt.ts'

/**
 * Asks for the object's name before something is destroyed that nothing brings back. `--yes` answers; without it and
 * without a terminal nothing is done. Throws `confirmation_needed`, `cancelled`.
 */
export async function confirmByName(context: CommandContext, what: string, name: string): Promise<void> {
  if (context.options.yes) return
  if (!context.terminal.interactive) {
    throw new Failure('confirmation_needed', {
      message: `${what} Nobody can be asked here.`,
      object: name,
      remedy: 'Add --yes to do it without a question.',
    })
  }
  const answer = await askLine(context, `${what}\nType ${name} to go on: `)
  if (answer.trim() !== name)
    throw new Failure('cancelled', { message: 'Not confirmed; nothing was done.', object: name })
}

/**
 * Asks whether a plan that was shown is to be carried out. `--yes` answers; without it and without a terminal nothing is done.
 * Throws `confirmation_needed`, `cancelled`.
 */
export async function confirmPlan(context: CommandContext, verb: string, what: string, object: string): Promise<void> {
  if (context.options.yes) return
  if (!context.terminal.interactive) {
    throw new Failure('confirmation_needed', {
      message: `${what} Nobody can be asked here.`,
      object,
      remedy: 'Add --yes to do it without a question.',
    })
  }
  const answer = await askLine(context, `${verb}? [y/N] `)
  if (!/^y(es)?$/i.test(answer.trim()))
    throw new Failure('cancelled', { message: 'Not confirmed; nothing was done.', object })
}
