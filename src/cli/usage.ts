import { Command, CommanderError, type ErrorOptions } from 'commander'
import { Failure } from '../base/failure.ts'

/** A command whose wrong usage is a `Failure` like every other: what is wrong, the nearest name, how it is written. */
export class UsageCommand extends Command {
  override createCommand(name?: string): Command {
    return new UsageCommand(name)
  }

  override error(message: string, options?: ErrorOptions): never {
    const text = message.replace(/^error: /, '').replace(/\n?\(Did you mean (.*?)\?\)$/s, '; did you mean $1?')
    const sentence = text.charAt(0).toUpperCase() + text.slice(1)
    const isList = options?.code === 'commander.unknownCommand'
    throw new Failure('wrong_usage', {
      message: /[.?]$/.test(sentence) ? sentence : `${sentence}.`,
      object: /'([^']*)'/.exec(text)?.[1] ?? fullName(this),
      remedy: isList
        ? `The commands are: ${this.commands.map((command) => fullName(command)).join(', ')}.`
        : `Write: ${fullName(this)} ${usageOf(this)}; \`${fullName(this)} --help\` explains it.`,
    })
  }
}

/** `yardmaster database add` */
function fullName(command: Command): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name()
}

/** The arguments and the options that must be given. */
function usageOf(command: Command): string {
  const args = command.registeredArguments.map((argument) => {
    const name = argument.variadic ? `${argument.name()}...` : argument.name()
    return argument.required ? `<${name}>` : `[${name}]`
  })
  const needed = command.options.filter((option) => option.mandatory).map((option) => option.flags)
  return [...args, ...needed, '[options]'].join(' ')
}

/** What commander ends a parse with: help that was asked for, or help because no command was named. */
export function asHelp(error: unknown): 'asked' | 'no_command' | undefined {
  if (!(error instanceof CommanderError)) return undefined
  if (error.exitCode === 0) return 'asked'
  return error.code === 'commander.help' ? 'no_command' : undefined
}

/** A whole number above 0 that a flag was given. Throws `wrong_usage`. */
export function readCount(text: string, flag: string, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value > 0 && value <= most) return value
  const range = most === Number.MAX_SAFE_INTEGER ? 'above 0' : `from 1 to ${most}`
  throw new Failure('wrong_usage', {
    message: `${flag} is '${text}'; it must be a whole number ${range}.`,
    object: flag,
    remedy: `For example: ${flag} 20`,
  })
}
