import type { Command } from 'commander'
import { type CommandContext, commandContext, type Surroundings } from './command-context.ts'

/** Adds the commands of one group to the program. */
export type Group = (program: Command) => void

/** What a command does: its context, its own flags, its arguments; resolves to the exit code. */
type CommandBody = (context: CommandContext, flags: never, ...args: never[]) => Promise<number>

interface Running {
  surroundings: Surroundings
  finish: (code: number) => void
}

const running = new WeakMap<Command, Running>()

/** Gives a program the process's surroundings, and somebody to tell the exit code. */
export function attach(program: Command, surroundings: Surroundings, finish: (code: number) => void): void {
  running.set(program, { surroundings, finish })
}

/** Wraps a body for commander: options resolved, context made, exit code passed on. */
export function action(body: CommandBody) {
  return async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command
    const args = given.slice(0, -2) as never[]
    let root = command
    while (root.parent) root = root.parent
    const home = running.get(root)
    if (!home) throw new Error('The program was not attached to a process.')
    const context = commandContext(home.surroundings, command.optsWithGlobals())
    home.finish(await body(context, command.opts() as never, ...args))
  }
}
