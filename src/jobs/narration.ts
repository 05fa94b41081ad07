import { type Level, type NextStart, readNotice, shownText } from './notices.ts'

/** Figures and words of an open step. */
export interface StepNews {
  readonly rows: number
  readonly bytes: number
  /** The newest that was said. */
  readonly message?: string
}

/** What a job tells the world while it runs. Whoever calls it hands one in. */
export interface JobReporter {
  /** Opens a step; the one before must have ended. */
  step(action: string): {
    progress(news: StepNews): void
    /** Ends the step. */
    done(message?: string, level?: Level): void
  }
}

/** Steps that one call may have; what it says beyond them is counted. */
const stepLimit = 500
/** Notices that were not understood and are shown as steps of their own. */
const complaintLimit = 5
/** Milliseconds between two reports of a step's progress: a job may raise a million notices. */
const reportEvery = 250

const severity: readonly Level[] = ['OK', 'WARNING', 'CRITICAL']

/** Makes steps of what a procedure says by its notices. Costs no memory, however many there are. */
export class Narration {
  readonly #reporter: JobReporter
  readonly #base: string
  readonly #onNextStart: (start: NextStart) => void
  #open: ReturnType<JobReporter['step']> | undefined
  #news: StepNews = { rows: 0, bytes: 0 }
  #steps = 0
  #leftOut = 0
  #complaints: string[] = []
  #unread = 0
  #level: Level = 'OK'
  #said: string | undefined
  #reportedAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #closed = false

  /** `base` is the step that is open while the procedure names none of its own. */
  constructor(reporter: JobReporter, base: string, onNextStart: (start: NextStart) => void) {
    this.#reporter = reporter
    this.#base = base
    this.#onNextStart = onNextStart
  }

  /** The level that the procedure asked for, and why. */
  get asked(): { readonly level: Level; readonly message: string | undefined } {
    return { level: this.#level, message: this.#said === undefined ? undefined : shownText(this.#said) }
  }

  /** Opens a step, and ends the one before. */
  begin(action: string = this.#base): void {
    this.end()
    this.#steps += 1
    if (this.#steps > stepLimit) {
      this.#leftOut += 1
      return
    }
    this.#open = this.#reporter.step(shownText(action))
  }

  hear(text: string): void {
    if (this.#closed) return
    const notice = readNotice(text)
    if (notice.kind === 'step') this.begin(notice.action)
    else if (notice.kind === 'end') this.end(notice.message, notice.level)
    else if (notice.kind === 'progress') this.#progress(notice)
    else if (notice.kind === 'text') this.#progress({ message: notice.text })
    else if (notice.kind === 'next_start') this.#onNextStart(notice.start)
    else if (notice.kind === 'level') this.#raise(notice.level, notice.message)
    else this.#complain(notice.complaint)
  }

  /** Ends the step that is open, if one is. */
  end(message?: string, level: Level = 'OK'): void {
    if (this.#timer) this.#report()
    const said = message ?? this.#news.message
    this.#open?.done(said === undefined ? undefined : shownText(said), level)
    this.#open = undefined
    this.#news = { rows: 0, bytes: 0 }
  }

  /** Ends what is open, and says what was not told; with `failure`, the open step ends with it. */
  close(failure?: string): void {
    if (this.#closed) return
    this.end(failure, failure === undefined ? 'OK' : 'CRITICAL')
    this.#closed = true
    for (const complaint of this.#complaints) this.#reporter.step('notice').done(shownText(complaint), 'WARNING')
    const unread = this.#unread - this.#complaints.length
    if (unread > 0) this.#reporter.step('notices').done(`${unread} more notices were not understood.`, 'WARNING')
    if (this.#leftOut > 0) {
      const left = this.#leftOut === 1 ? '1 more step was' : `${this.#leftOut} more steps were`
      this.#reporter.step('further steps').done(`${left} left out: a run keeps ${stepLimit}.`)
    }
  }

  #progress(news: Partial<StepNews>): void {
    // Between two steps of the procedure's own there is none to show it on.
    if (!this.#open) return
    this.#news = { ...this.#news, ...news }
    const wait = this.#reportedAt + reportEvery - performance.now()
    if (wait <= 0) this.#report()
    else this.#timer ??= setTimeout(() => this.#report(), wait).unref()
  }

  #report(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#reportedAt = performance.now()
    this.#open?.progress(shownNews(this.#news))
  }

  #raise(level: Level, message: string | undefined): void {
    const worse = severity.indexOf(level) > severity.indexOf(this.#level)
    if (worse || (level === this.#level && this.#said === undefined)) this.#said = message
    if (worse) this.#level = level
  }

  #complain(complaint: string): void {
    this.#unread += 1
    if (this.#complaints.length < complaintLimit) this.#complaints.push(complaint)
  }
}

function shownNews({ message, ...figures }: StepNews): StepNews {
  return message === undefined ? figures : { ...figures, message: shownText(message) }
}
