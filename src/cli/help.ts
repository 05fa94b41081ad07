import { type ErrorCode, errorRegistry } from '../base/error-registry.ts'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { printable } from '../postgres/identifier.ts'
import { action, type Group } from './action.ts'
import type { CommandContext } from './command-context.ts'

/** `yardmaster help`, `yardmaster help error CODE` */
export const helpGroup: Group = (program) => {
  program
    .command('help')
    .argument('[topic]', 'error')
    .argument('[name]', 'an error code')
    .description('this help, or what an error code means')
    .addHelpText('after', '\nExample:\n  yardmaster help error source_unreachable')
    .action(
      action(async (context: CommandContext, _flags: object, topic: string | undefined, name: string | undefined) => {
        if (topic === undefined) program.outputHelp()
        else if (topic === 'error') explainError(context, name)
        else {
          const command = program.commands.find((one) => one.name() === topic)
          if (!command) throw topicUnknown(topic, ['error', ...program.commands.map((one) => one.name())])
          command.outputHelp()
        }
        return 0
      }),
    )
}

function topicUnknown(topic: string, known: readonly string[]): Failure {
  const near = nearest(topic, known)
  return new Failure('wrong_usage', {
    message: `There is no help on '${printable(topic)}'${near ? `; did you mean '${near}'?` : '.'}`,
    object: printable(topic),
    remedy: `Topics: ${known.join(', ')}.`,
  })
}

function explainError(context: CommandContext, name: string | undefined): void {
  const codes = Object.keys(errorRegistry) as ErrorCode[]
  if (name === undefined) {
    for (const code of codes) context.terminal.line(`${code}: ${errorRegistry[code].meaning}`)
    return
  }
  const code = codes.find((one) => one === name)
  if (!code) {
    const near = nearest(name, codes)
    throw new Failure('wrong_usage', {
      message: `There is no error code '${printable(name)}'${near ? `; did you mean '${near}'?` : '.'}`,
      object: printable(name),
    })
  }
  if (context.terminal.json) context.terminal.document({ code, ...errorRegistry[code] })
  else context.terminal.line(`${code}\n  ${errorRegistry[code].meaning}\n  ${errorRegistry[code].remedy}`)
}
