import type pg from 'pg'
import type { Session } from '../postgres/connect.ts'
import type { Sql } from '../postgres/sql.ts'
import { wireOf } from '../postgres/wire.ts'

/**
 * One message to the server whose rows nobody reads: a job may select as many as it likes, and raise as many notices,
 * without costing memory.
 */
export class UnreadAnswer {
  readonly #send: (connection: pg.Connection) => void
  readonly #done = Promise.withResolvers<number>()
  #rows = 0

  private constructor(send: (connection: pg.Connection) => void) {
    this.#send = send
  }

  /**
   * Several statements in one text, by the simple protocol: one transaction, unless they say otherwise. Resolves to the
   * rows that they changed or gave. The text is its author's, who may run what our role may.
   */
  static ofText(session: Session, text: string): Promise<number> {
    return UnreadAnswer.#run(session, (connection) => connection.query(text))
  }

  /** One statement by the extended protocol, which can never be two. */
  static of(session: Session, { text, values }: Sql): Promise<number> {
    return UnreadAnswer.#run(session, (connection) => {
      const wire = wireOf(connection)
      connection.stream.cork()
      wire.parse({ text })
      wire.bind({ values: [...values] })
      wire.execute({})
      wire.sync()
      connection.stream.uncork()
    })
  }

  static async #run(session: Session, send: (connection: pg.Connection) => void): Promise<number> {
    const answer = new UnreadAnswer(send)
    const { client, connection } = session
    // Its end must know that the server is at work, and so must whoever looks for dead connections.
    session.awaited += 1
    connection.boundless = true
    try {
      client.query(answer)
      return await answer.#done.promise
    } catch (error) {
      throw session.failure(error)
    } finally {
      session.awaited -= 1
      connection.boundless = false
    }
  }

  submit(connection: pg.Connection): void {
    this.#send(connection)
  }

  handleCommandComplete(message: { text: string }): void {
    this.#rows += Number(/^\w+(?: 0)? (\d+)$/.exec(message.text)?.[1] ?? 0)
  }

  handleReadyForQuery(): void {
    this.#done.resolve(this.#rows)
  }

  handleError(error: unknown): void {
    this.#done.reject(error)
  }

  /** Nobody has data for it. */
  handleCopyInResponse(connection: pg.Connection): void {
    wireOf(connection).sendCopyFail('a job has no rows to copy from its client: use INSERT, or COPY from a file')
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
  handleCopyData(): void {}
}
