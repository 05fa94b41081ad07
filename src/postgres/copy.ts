import type pg from 'pg'
import { Failure } from '../base/failure.ts'
import type { Session } from './connect.ts'
import type { CopyFrameSink } from './copy-frames.ts'
import type { Sql } from './sql.ts'
import { isConnectionLoss } from './sqlstate.ts'
import { wireOf } from './wire.ts'

/** Counts what has gone through so far; read it at any time for progress. */
export interface CopyCounter {
  /** Rows sent, as the source's frames say (in binary one more a stream, for its end mark). */
  rows: number
  /** Payload bytes, without the protocol's headers. */
  bytes: number
}

/** Tag and length of a message. */
const rowHeaderBytes = 5

/**
 * Passes `COPY … TO STDOUT` of one session on to `COPY … FROM STDIN` of another as bytes. Memory stays flat at any size:
 * a slow destination pauses the source's socket. Both statements are over when this resolves; neither session's
 * transaction is ended. Resolves to the rows that the source sent, and those that the destination stored. Rejects with the `Failure` of the side that failed first.
 */
export async function copyThrough(
  from: { session: Session; statement: Sql },
  to: { session: Session; statement: Sql },
  counter: CopyCounter = { rows: 0, bytes: 0 },
): Promise<{ rows: number; sent: number }> {
  const input = new CopyIn(to.statement.text)
  const inputDone = submit(to.session, input)
  await awaited(to.session, Promise.race([input.ready, inputDone]))
  const relay = new Relay(from.session, to.session, counter)
  const output = new CopyOut(from.statement.text, from.session, relay)
  const outputDone = awaited(from.session, submit(from.session, output))
  let cancelled: Promise<void> | undefined
  inputDone.catch((failure) => {
    // What is still to be written may never be taken by a peer that is gone, and the source would be held for ever.
    if (failure instanceof Failure && isConnectionLoss(failure)) to.session.destroy()
    relay.discard()
    if (!output.isOver) cancelled = from.session.cancel()
  })
  let sent = 0
  try {
    sent = (await outputDone).rows
  } catch (failure) {
    if (!relay.discarding) {
      // Whoever waits for the rest of a row can only be cut off.
      if (relay.isInsideRow) to.session.destroy()
      else wireOf(to.session.connection).sendCopyFail('the source failed')
      await awaited(to.session, inputDone).catch(() => undefined)
      throw atRow(failure, relay.rows, from.statement)
    }
  }
  if (!relay.discarding) wireOf(to.session.connection).endCopyFrom()
  try {
    return { rows: (await awaited(to.session, inputDone)).rows, sent }
  } finally {
    // A cancellation that came late would hit whatever the source's session does next.
    await cancelled
    if (relay.isInsideRow) to.session.destroy()
  }
}

/** From here on it is the server's turn (`stall-watch.ts`). */
function awaited<Result>(session: Session, answer: Promise<Result>): Promise<Result> {
  session.awaited += 1
  return answer.finally(() => {
    session.awaited -= 1
  })
}

/** The destination's errors name the line; of the source's own (bytes that are no text in its encoding) only we know it. */
function atRow(failure: unknown, rows: number, statement: Sql): unknown {
  if (!(failure instanceof Failure) || !failure.sqlstate?.startsWith('22')) return failure
  const [, select] = /^copy \((.*)\) to stdout/s.exec(statement.text) ?? []
  return new Failure(failure.code, {
    message: `${failure.message}; in row ${rows + 1} of those that the source sends.`,
    object: failure.object ?? undefined,
    remedy: `Correct that row in the source, or leave it out with --where. This shows it there: SET client_encoding = SQL_ASCII; ${select} OFFSET ${rows} LIMIT 1;`,
    retryable: failure.retryable,
    sqlstate: failure.sqlstate,
    cause: failure,
  })
}

interface Outcome {
  rows: number
}

/** What the driver asks of a query object of one's own. */
abstract class CopyQuery {
  readonly done: Promise<Outcome>
  /** Whether the server has ended the statement, well or not. */
  isOver = false
  protected resolve: (outcome: Outcome) => void = () => undefined
  protected reject: (error: unknown) => void = () => undefined
  #rows = 0

  constructor() {
    this.done = new Promise<Outcome>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }

  abstract submit(connection: pg.Connection): void
  handleError(error: unknown): void {
    this.isOver = true
    this.reject(error)
  }
  handleCommandComplete(message: { text: string }): void {
    this.#rows = Number(/^COPY (\d+)$/.exec(message.text)?.[1] ?? 0)
  }
  handleReadyForQuery(): void {
    this.isOver = true
    this.resolve({ rows: this.#rows })
  }
  handleRowDescription(): void {}
  handleDataRow(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
  handleCopyData(): void {}
  handleCopyInResponse(): void {}
}

class CopyIn extends CopyQuery {
  readonly ready: Promise<void>
  readonly #text: string
  #begin: () => void = () => undefined

  constructor(text: string) {
    super()
    this.#text = text
    this.ready = new Promise((resolve) => {
      this.#begin = resolve
    })
  }

  submit(connection: pg.Connection): void {
    connection.query(this.#text)
  }

  override handleCopyInResponse(): void {
    this.#begin()
  }
}

class CopyOut extends CopyQuery {
  readonly #text: string
  readonly #session: Session
  readonly #relay: Relay

  constructor(text: string, session: Session, relay: Relay) {
    super()
    this.#text = text
    this.#session = session
    this.#relay = relay
  }

  /** By the extended protocol: a statement that somebody's condition is part of can never be two. */
  submit(connection: pg.Connection): void {
    this.#session.connection.filter.sink = this.#relay
    const wire = wireOf(connection)
    connection.stream.cork()
    wire.parse({ text: this.#text })
    wire.bind({})
    wire.execute({})
    wire.sync()
    connection.stream.uncork()
  }

  override handleError(error: unknown): void {
    this.#session.connection.filter.sink = undefined
    super.handleError(error)
  }

  override handleReadyForQuery(): void {
    this.#session.connection.filter.sink = undefined
    super.handleReadyForQuery()
  }
}

/**
 * Writes the source's frames to the destination's socket. What was read is written before anything more is read: where the
 * kernel does not take it at once, the source's socket is held until it has, because the next read uses the same buffer.
 */
class Relay implements CopyFrameSink {
  rows = 0
  discarding = false
  /** Bytes of rows that were begun and not yet passed on. */
  #due = 0
  readonly #source: Session
  readonly #destination: Session
  readonly #counter: CopyCounter
  #held = false
  readonly #flushed = () => {
    if (this.#held && this.#destination.connection.stream.writableLength === 0) this.#resume()
  }

  constructor(source: Session, destination: Session, counter: CopyCounter) {
    this.#source = source
    this.#destination = destination
    this.#counter = counter
  }

  row(payloadBytes: number): void {
    this.rows += 1
    if (!this.discarding) this.#due += rowHeaderBytes + payloadBytes
    this.#counter.rows += 1
    this.#counter.bytes += payloadBytes
  }

  frames(bytes: Buffer): void {
    const passed = this.discarding ? bytes.subarray(0, this.#due) : bytes
    this.#due -= passed.length
    if (passed.length === 0) return
    const { stream } = this.#destination.connection
    stream.write(passed, this.#flushed)
    if (stream.writableLength > 0 && !this.#held) {
      this.#held = true
      this.#source.connection.stream.pause()
    }
  }

  /** Whether the destination waits for the rest of a row: it would take anything else that it is sent for that. */
  get isInsideRow(): boolean {
    return this.#due > 0
  }

  /** The destination failed: but for the rest of a row, what still comes is thrown away, so that the source can end. */
  discard(): void {
    this.discarding = true
    // A destination that is gone takes nothing more, so nothing else would let the source go on.
    if (this.#held && this.#destination.connection.stream.destroyed) this.#resume()
  }

  #resume(): void {
    this.#held = false
    this.#source.connection.stream.resume()
  }
}

async function submit(session: Session, query: CopyQuery): Promise<Outcome> {
  session.client.query(query as unknown as pg.Submittable)
  try {
    return await query.done
  } catch (error) {
    throw session.failure(error)
  }
}
