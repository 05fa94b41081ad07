import { once } from 'node:events'
import { hostname } from 'node:os'
import type { Command } from 'commander'
import { parseDuration } from '../base/duration.ts'
import { Failure } from '../base/failure.ts'
import type { WorkerIdentity } from '../control/registration.ts'
import { type Host, ownHost } from '../placement/hosts.ts'
import { printable } from '../postgres/identifier.ts'
import { AlertWatch } from '../worker/alert-watch.ts'
import type { RunResult } from '../worker/run-outcome.ts'
import { Worker } from '../worker/worker.ts'
import type { Workplace } from '../worker/workplace.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withWorkplace } from './command-context.ts'

/** Runs at once, where nobody says otherwise. */
const defaultSlots = 4

/** `yardmaster worker` */
export const workerGroup: Group = (program) => {
  workerOptions(program.command('worker').description('carry out what is due, until it is stopped (SIGTERM, Ctrl-C)'))
    .option(
      '--until-eof',
      'stop also when standard input ends: for a worker that is to live no longer than its starter',
    )
    .addHelpText('after', '\nExample:\n  yardmaster worker --host h2 --slots 8')
    .action(action(worker))
}

/** Options of everything that works as a worker. */
export function workerOptions(command: Command): Command {
  return command
    .option('--host <name>', "name of the host, as placement knows it (default: the machine's)")
    .option('--slots <n>', `runs at once (default: ${defaultSlots})`)
    .option('--grace <interval>', 'how long runs may go on when it is stopped, before they are given back', '30 s')
}

export interface WorkerFlags {
  readonly host?: string
  readonly slots?: string
  readonly grace: string
}

async function worker(given: CommandContext, flags: WorkerFlags & { untilEof?: boolean }): Promise<number> {
  const identity = workerIdentity(flags)
  const context = flags.untilEof ? { ...given, signal: AbortSignal.any([given.signal, endOf(given.in)]) } : given
  try {
    await withWorkplace(context, (place) => runWorker(context, place, flags, identity), identity)
    return 0
  } finally {
    // Nobody reads it any more: it must not keep the process.
    if (flags.untilEof) given.in.destroy()
  }
}

/** Aborted when the input ends, as it does when whoever holds its other end is gone, however that came. */
function endOf(input: NodeJS.ReadStream): AbortSignal {
  const end = new AbortController()
  for (const event of ['end', 'error', 'close'] as const) input.once(event, () => end.abort())
  input.resume()
  return end.signal
}

/** Who this process is as a worker. Throws `wrong_usage`. */
export function workerIdentity({
  host = hostname(),
  slots = String(defaultSlots),
  grace,
}: WorkerFlags): WorkerIdentity {
  parseDuration(grace, '--grace')
  const count = Number(slots)
  if (!Number.isInteger(count) || count < 1 || count > 1000) {
    throw new Failure('wrong_usage', {
      message: `--slots is '${printable(slots)}'; it must be a whole number from 1 to 1000.`,
      object: '--slots',
      remedy: 'For example: --slots 8',
    })
  }
  return { name: `${host}#${process.pid}`, host, slots: count }
}

/** Works until the process is told to stop. What began ends within the grace period, or is given back. */
export async function runWorker(
  context: CommandContext,
  place: Workplace,
  flags: WorkerFlags,
  { name, host, slots }: WorkerIdentity,
): Promise<void> {
  const say = (line: string) => log(context, 'info', line)
  const own = await ownHost(place.control, host, '--host')
  const service = new Worker(
    { ...place, onStep: undefined },
    {
      slots,
      grace: parseDuration(flags.grace, '--grace'),
      say: (line) => log(context, 'warn', line),
      onResult: (result) => log(context, result.status === 'OK' ? 'info' : 'warn', inWords(result)),
    },
  )
  const watch = new AlertWatch(place.control, { say: (line) => log(context, 'warn', line) })
  await service.start()
  try {
    await watch.start()
    const as = own.host === host ? '' : ` as host ${own.host}`
    say(`Worker ${name} takes work${as}, ${slots} runs at once.`)
    if ('drained' in own && own.drained) log(context, 'warn', drainedInWords(own))
    if (!context.signal.aborted) await once(context.signal, 'abort')
    if (service.running > 0) say(`Waiting for ${service.running} runs to end, ${flags.grace} at most.`)
  } finally {
    await Promise.all([watch.stop(), service.stop()])
  }
}

function drainedInWords({ host, drained_at: since, drained_by: by }: Host): string {
  return `${host} is drained since ${since?.toISOString()} by ${by}: it takes nothing until: yardmaster host undrain ${host}`
}

/** A line of the log, with its time, on stderr. */
function log({ options, terminal }: CommandContext, level: 'info' | 'warn', line: string): void {
  const levels = ['debug', 'info', 'warn', 'error', 'silent']
  if (levels.indexOf(level) < levels.indexOf(options.logLevel)) return
  terminal.say(`${new Date().toISOString()} ${line}`)
}

function inWords({ run_id, status, message, seconds }: RunResult): string {
  return `run ${run_id} ${status} in ${seconds.toFixed(1)} s: ${printable(message)}`
}
