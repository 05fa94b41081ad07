import pg from 'pg'
import type { Sql } from './sql.ts'
import { wireOf } from './wire.ts'

interface Field {
  readonly name: string
  readonly dataTypeID: number
}

const { prepareValue } = (pg as unknown as { utils: { prepareValue(value: unknown): unknown } }).utils

/**
 * Statements by the extended protocol, each a single one, sent at once and with one end for all: one round trip, and one
 * transaction where none is open. The first that fails ends them, and what they did; the connection stays of use.
 */
export class Pipeline {
  readonly #statements: readonly Sql[]
  readonly #done = Promise.withResolvers<object[][]>()
  readonly #results: object[][] = []
  #fields: readonly Field[] = []
  #rows: object[] = []

  private constructor(statements: readonly Sql[]) {
    this.#statements = statements
  }

  /** The rows of each. Rejects with what the driver says of the first that fails. */
  static run(client: pg.Client, statements: readonly Sql[]): Promise<object[][]> {
    const pipeline = new Pipeline(statements)
    client.query(pipeline)
    return pipeline.#done.promise
  }

  submit(connection: pg.Connection): void {
    const wire = wireOf(connection)
    connection.stream.cork()
    for (const { text, values } of this.#statements) {
      wire.parse({ text })
      wire.bind({ values: [...values], valueMapper: prepareValue })
      wire.describe({ type: 'P', name: '' })
      wire.execute({})
    }
    wire.sync()
    connection.stream.uncork()
  }

  handleRowDescription(message: { fields: readonly Field[] }): void {
    this.#fields = message.fields
  }

  handleDataRow(message: { fields: readonly (string | null)[] }): void {
    const values = this.#fields.map(({ name, dataTypeID }, index) => {
      const text = message.fields[index] ?? null
      return [name, text === null ? null : pg.types.getTypeParser(dataTypeID, 'text')(text)]
    })
    this.#rows.push(Object.fromEntries(values))
  }

  handleCommandComplete(): void {
    this.#results.push(this.#rows)
    this.#rows = []
  }

  handleReadyForQuery(): void {
    this.#done.resolve(this.#results)
  }

  handleError(error: unknown): void {
    this.#done.reject(error)
  }

  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}

  /** In this mode the server has overlooked the end that was sent already. */
  handleCopyInResponse(connection: pg.Connection): void {
    wireOf(connection).sendCopyFail('a copy came where none is expected')
    wireOf(connection).sync()
  }

  handleCopyData(): void {}
}
