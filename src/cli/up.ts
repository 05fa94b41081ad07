import { once } from 'node:events'
import type { Control } from '../control/control.ts'
import type { StatusPage } from '../http/status-page.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl, withWorkplace } from './command-context.ts'
import { runWorker, type WorkerFlags, workerIdentity, workerOptions } from './worker.ts'

const listenHelp =
  'where the status page is (default: 127.0.0.1:7878, or the next free port); it asks nobody for a password'

/** `yardmaster up`, `yardmaster serve` */
export const upGroup: Group = (program) => {
  const command = program.command('up').description('a worker and the status page in one process, until it is stopped')
  workerOptions(command.option('--listen <addr:port>', listenHelp))
    .addHelpText('after', '\nExample:\n  yardmaster up --host h2 --listen 127.0.0.1:8080')
    .action(action(up))
  program
    .command('serve')
    .description('the status page only, until it is stopped')
    .option('--listen <addr:port>', listenHelp)
    .addHelpText('after', '\nExample:\n  yardmaster serve --listen 127.0.0.1:8080')
    .action(action(serve))
}

interface ListenFlags {
  readonly listen?: string
}

async function up(context: CommandContext, flags: WorkerFlags & ListenFlags): Promise<number> {
  const identity = workerIdentity(flags)
  const makePage = await pageMaker(flags)
  const body = async (place: Parameters<typeof runWorker>[1]) => {
    const page = makePage(place.control)
    await page.start()
    try {
      announce(context, page)
      await runWorker(context, place, flags, identity)
      return 0
    } finally {
      // Last: until then it shows what still runs.
      await page.stop()
    }
  }
  return withWorkplace(context, body, identity)
}

async function serve(context: CommandContext, flags: ListenFlags): Promise<number> {
  const makePage = await pageMaker(flags)
  return withControl(context, async (control) => {
    const page = makePage(control)
    await page.start()
    try {
      announce(context, page)
      if (!context.signal.aborted) await once(context.signal, 'abort')
      return 0
    } finally {
      await page.stop()
    }
  })
}

/** The HTTP server's code is loaded here, so that no other command waits for it. Throws `wrong_usage` before anything begins. */
async function pageMaker({ listen }: ListenFlags): Promise<(control: Control) => StatusPage> {
  const { defaultListenAddress, parseListenAddress } = await import('../http/listen-address.ts')
  const address = listen === undefined ? defaultListenAddress : parseListenAddress(listen)
  const { StatusPage } = await import('../http/status-page.ts')
  const { statusReader } = await import('../http/status-reader.ts')
  const { machineRoutes } = await import('../http/metrics.ts')
  return (control) =>
    new StatusPage(
      address,
      statusReader(control, () => []),
      machineRoutes(control),
    )
}

function announce({ terminal }: CommandContext, page: StatusPage): void {
  if (terminal.json) terminal.document({ status_page: page.url })
  else terminal.line(`Status page: ${page.url}`)
}
