import type { PlanSign, Terminal } from './terminal.ts'

/** Prints a plan before somebody is asked about it; with --json only to who sits there, beside the document. */
export function showPlan(terminal: Terminal, sign: PlanSign, lines: (sign: string) => readonly string[]): void {
  if (!terminal.json) for (const line of lines(terminal.sign(sign))) terminal.line(line)
  else if (terminal.interactive) for (const line of lines(sign)) terminal.say(line)
}
