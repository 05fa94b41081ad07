import { formatBytes, formatCount, formatDuration } from '../base/duration.ts'
import type { LiveStep, StepFigures } from '../monitoring/run-log.ts'
import { printable } from '../postgres/identifier.ts'
import type { Terminal } from './terminal.ts'

/** Milliseconds between two lines of progress where there is no terminal, and between two redraws where there is one. */
const lineEvery = 5000
const redrawEvery = 100
/** An estimate is shown from this share or age on; before, it says nothing. */
const estimateFrom = { share: 0.05, seconds: 10 }

/** Shows steps and figures on stderr: one line that is redrawn on a terminal, one line every 5 s elsewhere. */
export class Progress {
  readonly #terminal: Terminal
  readonly #quiet: boolean
  readonly #redraws: boolean
  #step: { action: string; since: number } | undefined
  #lastLine = Date.now()
  #drawn = false

  constructor(terminal: Terminal, logLevel: string, screenReader: boolean) {
    this.#terminal = terminal
    this.#quiet = !['debug', 'info'].includes(logLevel)
    this.#redraws = terminal.showsProgress && !screenReader
  }

  step(object: string, step: LiveStep): void {
    if (this.#quiet) return
    if (step.action !== this.#step?.action) this.#step = { action: step.action, since: Date.now() }
    const now = Date.now()
    const text = this.#text(printable(object), step, (now - this.#step.since) / 1000)
    if (this.#redraws) {
      if (now - this.#lastLine < redrawEvery && step.figures) return
      this.#terminal.redraw(text)
      this.#drawn = true
    } else if (now - this.#lastLine < lineEvery) return
    else this.#terminal.say(text)
    this.#lastLine = now
  }

  end(): void {
    if (this.#drawn) this.#terminal.clearLine()
  }

  #text(object: string, step: LiveStep, seconds: number): string {
    return step.figures
      ? `${object}  ${step.action}  ${figuresText(step.figures, seconds)}`
      : `${object}  ${step.action}`
  }
}

/** `62 %  2,981,004 rows  1.4 GiB  88.0 MiB/s  about 2 min 05 s left`. */
function figuresText(figures: StepFigures, seconds: number): string {
  const share = figures.totalRows === undefined ? undefined : Math.min(0.99, figures.rows / figures.totalRows)
  const parts = [`${formatCount(figures.rows)} rows`, formatBytes(figures.bytes)]
  if (seconds > 0) parts.push(`${formatBytes(Math.round(figures.bytes / seconds))}/s`)
  if (share !== undefined) {
    parts.unshift(`${Math.floor(share * 100)} %`)
    const worthIt = share >= estimateFrom.share || seconds >= estimateFrom.seconds
    if (worthIt && share > 0) parts.push(`about ${formatDuration((seconds / share) * (1 - share))} left`)
  }
  return parts.join('  ')
}
