import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, inject, onTestFinished } from 'vitest'

export interface CliOptions {
  /** Over a clean environment: PATH, LANG, TZ, TMPDIR and a HOME of the run's own; nothing of YARDMASTER_* or PG*. */
  env?: Record<string, string>
  /** What the process reads; without it, its input is at its end at once. */
  input?: string
  /** Its abort ends the process with SIGTERM. */
  signal?: AbortSignal
  cwd?: string
  /** Runs under this account; only root can. */
  account?: { uid: number; gid: number }
  /** After this it is killed. Default 60 000. */
  deadlineMs?: number
}

export interface CliResult {
  /** null when a signal ended it. */
  exitCode: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** `stdout` read as JSON; the error shows both outputs. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever the command under test prints
  json(): any
}

export interface RunningCli {
  pid: number
  stdout(): string
  stderr(): string
  write(text: string): void
  /** Ends the process's input. */
  end(): void
  /** Resolves when `pattern` is in stdout or stderr; rejects when the process ends or `timeoutMs` (30 000) pass first. */
  waitForOutput(pattern: RegExp, timeoutMs?: number): Promise<RegExpMatchArray>
  /** Sends a signal (default SIGTERM) and resolves when the process is gone. */
  kill(signal?: NodeJS.Signals): Promise<CliResult>
  /** Never rejects. */
  ended: Promise<CliResult>
}

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const running = new Set<ChildProcess>()

afterAll(() => {
  for (const child of running) child.kill('SIGKILL')
})

/** Runs `yardmaster` with these arguments to its end. */
export async function runCli(args: string[], options: CliOptions = {}): Promise<CliResult> {
  return startNode([main, ...args], { ...options, input: options.input ?? '' }).ended
}

/** Starts `yardmaster` with these arguments. It is killed at the end of the test, or of the file when started outside one. */
export function startCli(args: string[], options: CliOptions = {}): RunningCli {
  return startNode([main, ...args], options)
}

/** The same for any script: `args` are Node's. */
export function startNode(args: string[], options: CliOptions = {}): RunningCli {
  const child = spawn(process.execPath, args, {
    ...options.account,
    cwd: options.cwd ?? process.cwd(),
    env: environment(options.env),
  })
  killAtEnd(child)
  const output = new Output(child)
  // A process that has ended already reads nothing any more; that is no error of the test.
  child.stdin.on('error', () => {})
  if (options.input !== undefined) child.stdin.end(options.input)
  const ended = endOf(child, output, options)
  void ended.then(() => output.close())
  return {
    pid: child.pid ?? 0,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    write: (text) => void child.stdin.write(text),
    end: () => void child.stdin.end(),
    waitForOutput: (pattern, timeoutMs = 30_000) => output.waitFor(pattern, timeoutMs),
    kill: (signal = 'SIGTERM') => {
      child.kill(signal)
      return ended
    },
    ended,
  }
}

function endOf(child: ChildProcess, output: Output, options: CliOptions): Promise<CliResult> {
  const deadline = setTimeout(() => child.kill('SIGKILL'), options.deadlineMs ?? 60_000)
  const abort = () => child.kill('SIGTERM')
  options.signal?.addEventListener('abort', abort)
  return new Promise((resolve) => {
    child.once('close', (exitCode, signal) => {
      clearTimeout(deadline)
      options.signal?.removeEventListener('abort', abort)
      running.delete(child)
      const { stdout, stderr } = output
      resolve({ exitCode, signal, stdout, stderr, json: () => parse(stdout, stderr) })
    })
  })
}

/** What a process has printed so far, and who waits for something in it. */
class Output {
  stdout = ''
  stderr = ''
  #closed = false
  readonly #looks = new Set<() => void>()

  constructor(child: ChildProcessWithoutNullStreams) {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.#look()
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      this.#look()
    })
  }

  close(): void {
    this.#closed = true
    this.#look()
  }

  async waitFor(pattern: RegExp, timeoutMs: number): Promise<RegExpMatchArray> {
    const found = Promise.withResolvers<RegExpMatchArray>()
    const fail = (why: string) =>
      found.reject(new Error(`${why} before ${pattern} came:\n${this.stdout}\n${this.stderr}`))
    const look = () => {
      const match = this.stdout.match(pattern) ?? this.stderr.match(pattern)
      if (match !== null) found.resolve(match)
      else if (this.#closed) fail('the process ended')
    }
    const timeout = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs)
    this.#looks.add(look)
    look()
    return found.promise.finally(() => {
      clearTimeout(timeout)
      this.#looks.delete(look)
    })
  }

  #look(): void {
    for (const look of this.#looks) look()
  }
}

function killAtEnd(child: ChildProcess): void {
  running.add(child)
  try {
    onTestFinished(() => void child.kill('SIGKILL'))
  } catch {
    // Not inside a test (a beforeAll): the end of the file kills it.
  }
}

function environment(given: Record<string, string> = {}): Record<string, string> {
  const home = join(inject('runDirectory'), 'home')
  mkdirSync(home, { recursive: true })
  const kept = ['PATH', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR'].flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return { ...Object.fromEntries(kept), HOME: home, ...given }
}

function parse(stdout: string, stderr: string): unknown {
  try {
    return JSON.parse(stdout)
  } catch {
    throw new Error(`not JSON:\n${stdout}\nstderr:\n${stderr}`)
  }
}
