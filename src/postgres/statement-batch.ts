import type pg from 'pg'

/**
 * Statements of our own making, each a message of its own (simple protocol), sent at once: one round trip for all of
 * them, where the driver would wait for each answer before it sends the next. Rows are not kept. After a failure the
 * connection is of no use any more: answers are still to come that nobody waits for.
 */
export class StatementBatch {
  readonly #texts: readonly string[]
  readonly #client: pg.Client
  readonly #done = Promise.withResolvers<void>()
  #left: number

  private constructor(client: pg.Client, texts: readonly string[]) {
    this.#client = client
    this.#texts = texts
    this.#left = texts.length
  }

  /** Rejects with what the driver says of the first statement that fails. */
  static run(client: pg.Client, texts: readonly string[]): Promise<void> {
    const batch = new StatementBatch(client, texts)
    client.query(batch)
    return batch.#done.promise
  }

  /** The driver calls this once for each answer that it is to wait for. */
  submit(connection: pg.Connection): void {
    if (this.#left < this.#texts.length) return
    connection.stream.cork()
    for (const text of this.#texts) connection.query(text)
    connection.stream.uncork()
  }

  handleReadyForQuery(): void {
    this.#left -= 1
    if (this.#left === 0) this.#done.resolve()
    else this.#client.query(this)
  }

  handleError(error: unknown): void {
    this.#done.reject(error)
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleCommandComplete(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}
  handleCopyInResponse(): void {}
  handleCopyData(): void {}
}
