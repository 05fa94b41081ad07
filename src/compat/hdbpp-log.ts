import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { printable } from '../postgres/identifier.ts'

/** Severities of syslog, RFC 3164 section 4.1.1. */
const severities = { error: 3, warn: 4, info: 6, debug: 7 } as const

export type HdbppLevel = keyof typeof severities

/** Facility `user`, as the script logged. */
const facility = 1
const tag = 'hdbpp_postprocessing'

/** What is said of a pass: a line each, with its level. */
export interface HdbppLog {
  say(level: HdbppLevel, text: string): void
  /** Resolves when all was handed over. Never rejects. */
  close(): Promise<void>
}

interface LogOptions {
  /** The least that is said. */
  readonly level: HdbppLevel | 'silent'
  readonly write: (text: string) => void
  /** Local time of the process, as the script wrote it. */
  readonly now?: () => Date
}

/** Lines for a person, or for the mail of cron. */
export function terminalLog({ level, write, now = () => new Date() }: LogOptions): HdbppLog {
  return {
    say: (said, text) => {
      if (isWanted(said, level)) write(`${localTime(now())} ${tag}[${process.pid}]: ${line(said, text)}\n`)
    },
    close: async () => undefined,
  }
}

/**
 * Datagrams to the syslog daemon's socket, by RFC 3164, through `logger` of util-linux: Node has no Unix datagrams. What did
 * not get there is written in the end, so that nothing is lost in silence.
 */
export function syslogLog({ level, write, now }: LogOptions, socket: string): HdbppLog {
  const unsent = terminalLog({ level, write, ...(now ? { now } : {}) })
  const sent: [HdbppLevel, string][] = []
  const child = startLogger(socket)
  const ended = endOf(child)
  return {
    say: (said, text) => {
      if (!isWanted(said, level)) return
      sent.push([said, text])
      child.stdin?.write(`<${facility * 8 + severities[said]}>${line(said, text)}\n`)
    },
    close: async () => {
      child.stdin?.end()
      const why = await ended
      if (why === undefined) return
      unsent.say('error', `The syslog daemon took nothing (${why}); what it was to be told:`)
      for (const [said, text] of sent) unsent.say(said, text)
    },
  }
}

function startLogger(socket: string): ChildProcess {
  const args = ['--tag', tag, `--id=${process.pid}`, '--prio-prefix', '--socket', socket, '--socket-errors=on']
  // Longer lines than 1 KiB would be cut in two; no daemon of today minds 8.
  const child = spawn('logger', [...args, '--size', '8KiB'], { stdio: ['pipe', 'ignore', 'pipe'], detached: true })
  // A logger that has ended reads nothing more; why, its end says.
  child.stdin.on('error', () => undefined)
  return child
}

/** Why it failed; undefined where it did not. */
async function endOf(child: ChildProcess): Promise<string | undefined> {
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  try {
    const [code] = (await once(child, 'close')) as [number | null]
    return code === 0 && said === '' ? undefined : printable(said.trim() || `logger ended with ${code}`)
  } catch (error) {
    return `logger of util-linux could not be started: ${(error as Error).message}`
  }
}

function isWanted(level: HdbppLevel, least: HdbppLevel | 'silent'): boolean {
  return least !== 'silent' && severities[level] <= severities[least]
}

/** One line, whatever a server said. */
function line(level: HdbppLevel, text: string): string {
  const word = level === 'error' ? 'ERROR: ' : level === 'warn' ? 'WARNING: ' : ''
  return word + printable(text.replaceAll(/\s*\n\s*/g, ' | '))
}

function localTime(time: Date): string {
  const [date, clock] = [
    [time.getFullYear(), time.getMonth() + 1, time.getDate()],
    [time.getHours(), time.getMinutes(), time.getSeconds()],
  ].map((parts) => parts.map((part) => String(part).padStart(2, '0')))
  return `${date?.join('-')} ${clock?.join(':')}`
}
