import type { Argument, Command, Option } from 'commander'
import { type ErrorCode, errorRegistry } from '../src/base/error-registry.ts'
import { buildProgram } from '../src/cli/program.ts'
import { environmentSettings, type OptionDeclaration, programOptions } from '../src/config/program-options.ts'

/** The generated pages by path: `npm run docs` writes them, a test fails when they are not current. */
export function referencePages(): Record<string, string> {
  return {
    'docs/reference/errors.md': errorsPage(),
    'docs/reference/cli.md': commandsPage(),
    'docs/reference/environment.md': environmentPage(),
  }
}

const made = (from: string) => `<!-- Made by \`npm run docs\` from ${from}; changes here are lost. -->\n`

function errorsPage(): string {
  const codes = (Object.keys(errorRegistry) as ErrorCode[]).sort()
  const entries = codes.map((code) => {
    const { meaning, remedy, exit } = errorRegistry[code]
    return `## ${code}\n\n${meaning}\n\n- Remedy: ${remedy}\n- Exit code: ${exit ?? 1}\n`
  })
  return `${made('src/base/error-registry.ts')}
# Errors

Every failure has one of these codes, in \`Error [code] …\` on stderr and in \`{"error": {"code", "message", "object", "remedy"}}\` with
\`--json\`. \`yardmaster help error CODE\` says the same without a network.

${entries.join('\n')}`
}

function environmentPage(): string {
  const rows = [
    ...Object.values<OptionDeclaration>(programOptions).flatMap((option) =>
      option.environment === undefined ? [] : [`| \`${option.environment}\` | \`${option.flag}\` | ${option.help} |`],
    ),
    ...Object.values(environmentSettings).map(({ environment, help }) => `| \`${environment}\` | – | ${help} |`),
  ]
  return `${made('src/config/program-options.ts')}
# Environment variables

A flag wins over its variable. A registered URL of the form \`env:NAME\` reads the variable NAME as well.

| variable | flag | meaning |
|---|---|---|
${rows.join('\n')}
`
}

function commandsPage(): string {
  const program = buildProgram()
  const globals = new Set(Object.values<OptionDeclaration>(programOptions).map((option) => option.flag))
  const sections = leaves(program).map((command) => commandSection(command, globals))
  const options = program.options.filter((option) => globals.has(option.flags)).map(optionRow)
  return `${made('the program itself')}
# Commands

${program.description()}

Exit codes: 0 done; 1 failed or, for \`replication validate\` and \`doctor\`, not as it should be; 2 wrong usage, or a confirmation that
nobody could give; 130 and 143 after SIGINT and SIGTERM. \`check\` ends with 0, 1 or 2 for OK, WARNING or CRITICAL, and with 3 where it
cannot find out. Results go to stdout, everything else to stderr.

## Options of every command

| option | meaning |
|---|---|
${options.join('\n')}

${sections.join('\n')}`
}

/** The commands that do something, in the order of \`--help\`. */
function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap((child) => leaves(child as Command))
}

function commandSection(command: Command, globals: ReadonlySet<string>): string {
  const own = command.options.filter((option) => !globals.has(option.flags))
  const args = command.registeredArguments.map((argument) => argumentText(argument))
  const described = command.registeredArguments.filter((argument) => argument.description !== '')
  const example = exampleOf(command)
  const rows = [
    ...described.map((argument) => `| \`${argumentText(argument)}\` | ${cell(argument.description)} |`),
    ...own.map(optionRow),
  ]
  return [
    `## ${[nameOf(command), ...args].join(' ')}`,
    sentence(command.description()),
    ...(rows.length > 0 ? [`| argument or option | meaning |\n|---|---|\n${rows.join('\n')}`] : []),
    ...(example === '' ? [] : [`\`\`\`console\n${example}\n\`\`\``]),
    '',
  ].join('\n\n')
}

function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name()
}

function argumentText(argument: Argument): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`
  return argument.required ? `<${name}>` : `[${name}]`
}

function optionRow(option: Option): string {
  const needed = option.mandatory ? ' (needed)' : ''
  const standard = typeof option.defaultValue === 'string' ? ` (default: ${option.defaultValue})` : ''
  return `| \`${option.flags}\` | ${cell(option.description)}${needed}${standard} |`
}

/** What `addHelpText('after', …)` prints behind the help: the examples. */
function exampleOf(command: Command): string {
  let printed = ''
  const page = command.configureOutput({ writeOut: (text) => (printed += text) })
  page.outputHelp()
  return printed.includes('\nExample:\n')
    ? (printed.split('\nExample:\n')[1] ?? '')
        .trim()
        .replaceAll(/^ +/gm, '$ ')
        .replace(/^(?!\$)/, '$ ')
    : ''
}

const cell = (text: string) => text.replaceAll('|', '\\|')
const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`
