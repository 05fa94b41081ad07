import { tmpdir } from 'node:os'
import type { DemoOptions } from '../demo/demo.ts'
import { action, type Group } from './action.ts'
import type { CommandContext } from './command-context.ts'

/** `yardmaster demo` */
export const demoGroup: Group = (program) => {
  program
    .command('demo')
    .description(
      'three embedded databases, live traffic, workers on three hosts that keep copies of four sites current and run jobs, a status page; nothing is left at the end',
    )
    .option('--listen <addr:port>', 'where the status page is (default: 127.0.0.1:7878, or the next free port)')
    .option(
      '--exit-after-checks',
      'kill a host and start it again, watch its work move and come back and jobs run, fail and alert, compare source and copies row by row, and end; exit 1 when something is wrong',
    )
    .option(
      '--data-dir <path>',
      "folder in which the demo makes a folder of its own (default: the system's temporary folder)",
    )
    .addHelpText('after', '\nExample:\n  yardmaster demo --listen 127.0.0.1:8080')
    .action(action(demo))
}

interface DemoFlags {
  readonly listen?: string
  readonly exitAfterChecks?: boolean
}

async function demo(context: CommandContext, flags: DemoFlags): Promise<number> {
  const { terminal, signal } = context
  const options = {
    parent: context.options.dataDir ?? tmpdir(),
    streams: context.options.streams,
    signal,
    environment: passedOn(context),
    say: (line: string) => (terminal.json ? terminal.say(line) : terminal.line(line)),
  }
  // Loaded here, so that no other command waits for the HTTP server's code.
  const { defaultListenAddress, parseListenAddress } = await import('../http/listen-address.ts')
  const listen = flags.listen === undefined ? defaultListenAddress : parseListenAddress(flags.listen)
  if (context.options.control !== undefined)
    terminal.say('The demo has a control database of its own; --control is not used.')
  if (flags.exitAfterChecks) return check(context, options)
  const { runDemo } = await import('../demo/run-demo.ts')
  await runDemo({ ...options, listen, ready: (place) => terminal.json && terminal.document(place) })
  return 0
}

/** What the demo's workers get of the environment: no other control database, key or folder than the demo's. */
function passedOn({ environment }: CommandContext): Record<string, string> {
  const names = ['PATH', 'HOME', 'TMPDIR', 'TZ', 'LANG', 'LC_ALL', 'LC_CTYPE', 'XDG_CACHE_HOME', 'YARDMASTER_LOG_LEVEL']
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = environment(name)
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

async function check({ terminal }: CommandContext, options: DemoOptions): Promise<number> {
  const { checkDemo } = await import('../demo/demo-checks.ts')
  const { printable } = await import('../postgres/identifier.ts')
  const began = Date.now()
  const checks = await checkDemo({
    ...options,
    done: ({ name, ok, detail }) =>
      options.say(`${terminal.level(ok ? 'OK' : 'CRITICAL')} ${printable(name)}: ${printable(detail)}`),
  })
  const failed = checks.filter((one) => !one.ok)
  const seconds = (Date.now() - began) / 1000
  if (terminal.json) terminal.document({ ok: failed.length === 0, seconds, checks })
  else if (failed.length === 0) terminal.line(`All ${checks.length} checks passed in ${seconds.toFixed(1)} s.`)
  else
    terminal.line(
      `${failed.length} of ${checks.length} checks failed: ${failed.map((one) => printable(one.name)).join(', ')}.`,
    )
  return failed.length === 0 ? 0 : 1
}
