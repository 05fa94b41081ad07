import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { loadFile } from '../placement/binding-file.ts'
import { type ChangeOutcome, changeBindings, readBindings, refuseFile } from '../placement/bindings.ts'
import type { Session } from '../postgres/connect.ts'
import { printable } from '../postgres/identifier.ts'
import { isConnectionLoss, toFailure } from '../postgres/sqlstate.ts'
import { changeUnlessRefused, outcomeJson, reportChange, strandedBy } from './binding-change.ts'
import { printPlan } from './binding-plan.ts'
import { type CommandContext, withControl } from './command-context.ts'

interface ApplyFlags {
  readonly dryRun?: boolean
  readonly force?: boolean
  readonly watch?: boolean
}

/** `yardmaster binding apply` */
export async function applyFile(context: CommandContext, flags: ApplyFlags, file: string): Promise<number> {
  const force = flags.force === true
  if (flags.watch) {
    if (!flags.dryRun) return watchFile(context, file, force)
    throw new Failure('wrong_usage', {
      message: '--watch applies a file, and --dry-run applies nothing.',
      object: '--dry-run',
      remedy: 'Leave one of them out.',
    })
  }
  const bytes = await loadFile(file)
  return withControl(context, async ({ session }) => {
    const bindings = await readBindings(session, file, bytes)
    const change = (mayStrand: 'all' | readonly string[]) =>
      changeBindings(session, { kind: 'all', bindings }, { mayStrand, dryRun: flags.dryRun === true })
    const outcome = flags.dryRun ? await change([]) : await changeUnlessRefused(context, force, change)
    return reportChange(context.terminal, outcome, flags.dryRun === true, force)
  })
}

/** Milliseconds between two looks at a watched file. Twice the same in a row is a file that nobody is writing. */
const lookEvery = 500
/** Milliseconds between two tries while the control database is away. */
const tryEvery = 1000
/** Milliseconds within which a file must be applied: the largest that may be takes some seconds. */
const answerWithin = 60_000
/** Milliseconds for which one is waited for at the start. */
const startPatience = 60_000

/** Ends by a signal only; what its process ends with is the signal's own code. */
async function watchFile(context: CommandContext, file: string, force: boolean): Promise<number> {
  return withControl(
    context,
    async (control) => {
      const watch = new Watch(context, control, file, force)
      while (!context.signal.aborted) {
        await untilAborted(watch.look(), context.signal)
        await delay(lookEvery, undefined, { signal: context.signal }).catch(() => undefined)
      }
      return 0
    },
    startPatience,
  )
}

/** A look may wait for a control database that does not come back; whoever ends the command does not. */
async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>()
  const stop = () => aborted.resolve()
  signal.addEventListener('abort', stop)
  if (signal.aborted) stop()
  // What breaks off behind an abort is nobody's news any more.
  const quiet = work.catch((error: unknown) => {
    if (!signal.aborted) throw error
  })
  await Promise.race([quiet, aborted.promise]).finally(() => signal.removeEventListener('abort', stop))
}

/** A file's content: its bytes, or why there are none. */
type Content = Buffer | Failure

/** Looks at a file by its content: editors replace files, and not every file system tells. */
class Watch {
  readonly #context: CommandContext
  readonly #control: Control
  readonly #file: string
  readonly #force: boolean
  #last: Content | undefined
  #settled: Content | undefined

  constructor(context: CommandContext, control: Control, file: string, force: boolean) {
    this.#context = context
    this.#control = control
    this.#file = file
    this.#force = force
  }

  async look(): Promise<void> {
    const content = await loadFile(this.#file).catch(asFailure)
    // A file that somebody is writing may be whole by its form and half by its meaning.
    const isQuiet = isSame(content, this.#last)
    this.#last = content
    if (!isQuiet || isSame(content, this.#settled)) return
    this.#settled = content
    try {
      if (content instanceof Failure) throw content
      await this.#apply(content)
    } catch (error) {
      await this.#refuse(asFailure(error))
    }
  }

  async #apply(bytes: Buffer): Promise<void> {
    const mayStrand = this.#force ? 'all' : []
    const outcome = await this.#patiently(async (session) => {
      const bindings = await readBindings(session, this.#file, bytes)
      return changeBindings(session, { kind: 'all', bindings }, { mayStrand, dryRun: false })
    })
    if (!outcome.applied) throw strandedBy(outcome.plan)
    this.#tellApplied(outcome)
  }

  #tellApplied(outcome: ChangeOutcome): void {
    const { terminal } = this.#context
    if (terminal.json)
      terminal.jsonLine({ event: 'applied', file: this.#file, at: new Date(), ...outcomeJson(outcome) })
    else {
      terminal.say(`${terminal.time(new Date())} ${printable(this.#file)} is applied.`)
      printPlan(terminal, outcome.plan, this.#force)
    }
  }

  async #refuse(failure: Failure): Promise<void> {
    const { terminal } = this.#context
    if (this.#context.signal.aborted) return
    if (terminal.json) terminal.jsonLine({ event: 'refused', file: this.#file, at: new Date(), error: failure })
    else
      terminal.say(
        `${terminal.time(new Date())} ${printable(this.#file)} is refused.\nError [${failure.code}] ${failure.message}\nRemedy: ${failure.remedy}\nThe bindings before it stay in force; the next change of ${printable(this.#file)} is tried again.`,
      )
    const [first = '', ...others] = failure.message.split('\n').slice(-1 - (failure.errors?.length ?? 0))
    const message =
      others.length === 0 ? first : `${first} ${others[0]}${others.length > 1 ? ` and ${others.length - 1} more` : ''}`
    await this.#patiently((session) => refuseFile(session, resolve(this.#file), hostname(), message))
  }

  /** Does what may be done twice, on a session of its own, however long the control database is away. */
  async #patiently<Result>(work: (session: Session) => Promise<Result>): Promise<Result> {
    const { signal, terminal } = this.#context
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#onSession(work)
      } catch (error) {
        const failure = asFailure(error)
        if (signal.aborted || !(isConnectionLoss(failure) || failure.retryable)) throw failure
        if (attempt === 1) terminal.say(`Waiting for the control database: ${failure.message}`)
        await delay(tryEvery, undefined, { signal }).catch(() => undefined)
      }
    }
  }

  /** A connection that is open and dead gives no answer at all, and whoever ends the command waits for none. */
  async #onSession<Result>(work: (session: Session) => Promise<Result>): Promise<Result> {
    const { signal } = this.#context
    const session = await this.#control.open('bindings')
    const cut = () => session.destroy()
    const timer = setTimeout(cut, answerWithin)
    signal.addEventListener('abort', cut)
    try {
      if (signal.aborted) cut()
      return await work(session)
    } catch (error) {
      throw session.failure(error)
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', cut)
      await session.end()
    }
  }
}

function isSame(one: Content, other: Content | undefined): boolean {
  if (one instanceof Failure) return other instanceof Failure && other.message === one.message
  return other instanceof Uint8Array && one.equals(other)
}

function asFailure(error: unknown): Failure {
  return toFailure(error, { side: 'control', object: 'the control database' })
}
