import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { inject } from 'vitest'
import type { Surroundings } from '../../src/cli/command-context.ts'
import { runProgram } from '../../src/cli/program.ts'

export interface FakeOptions {
  /** Whether somebody sits there; false is a pipe. */
  terminal?: boolean
  columns?: number
  environment?: Record<string, string>
}

/** A terminal that a test types on and reads, around the program in this process. */
export class FakeTerminal {
  out = ''
  err = ''
  interrupted = false
  readonly #input: PassThrough & { isTTY?: boolean; setRawMode?: (raw: boolean) => void }
  readonly #surroundings: Surroundings
  readonly #looks = new Set<() => void>()
  #raw = false

  constructor({ terminal = true, columns = 100, environment = {} }: FakeOptions = {}) {
    const interrupt = new AbortController()
    this.#input = new PassThrough()
    if (terminal) Object.assign(this.#input, { isTTY: true, setRawMode: (raw: boolean) => this.#setRaw(raw) })
    const known: Record<string, string> = {
      LANG: 'C.UTF-8',
      YARDMASTER_DATA_DIR: mkdtempSync(join(inject('runDirectory'), 'data-')),
      ...environment,
    }
    this.#surroundings = {
      environment: (name) => known[name],
      out: this.#screen(terminal, columns, (text) => {
        this.out += text
      }),
      err: this.#screen(terminal, columns, (text) => {
        this.err += text
      }),
      in: this.#input as unknown as NodeJS.ReadStream,
      signal: interrupt.signal,
      interrupt: () => {
        this.interrupted = true
        interrupt.abort()
      },
    }
  }

  /** Runs one command line; resolves to its exit code. What it prints is added to `out` and `err`. */
  run(...args: string[]): Promise<number> {
    return runProgram(args, this.#surroundings)
  }

  /** Resolves when the program has printed this and listens to keys. */
  async asked(question: string): Promise<void> {
    const seen = Promise.withResolvers<void>()
    const look = () => {
      if (this.#raw && this.err.includes(question)) seen.resolve()
    }
    this.#looks.add(look)
    look()
    await seen.promise
    this.#looks.delete(look)
  }

  type(keys: string): void {
    this.#input.write(keys)
  }

  #setRaw(raw: boolean): void {
    this.#raw = raw
    this.#look()
  }

  #look(): void {
    for (const look of this.#looks) look()
  }

  #screen(isTTY: boolean, columns: number, add: (text: string) => void): NodeJS.WriteStream {
    const stream = new PassThrough()
    stream.on('data', (chunk: Buffer) => {
      add(chunk.toString())
      this.#look()
    })
    return Object.assign(stream, { isTTY, columns }) as unknown as NodeJS.WriteStream
  }
}
