import type { Session } from '../../src/postgres/connect.ts'
import type { Sql } from '../../src/postgres/sql.ts'

/** What a refresh sends its two servers, one text for each time that it waits for an answer. */
export class RoundTrips {
  readonly source: string[] = []
  readonly destination: string[] = []

  /** For `RefreshChoice`. */
  readonly onSession = (session: Session, side: 'source' | 'destination'): void => {
    const script = session.script.bind(session)
    const query: (statement: Sql) => unknown = session.query.bind(session)
    const queries: (statements: readonly Sql[]) => unknown = session.queries.bind(session)
    const note = (...texts: string[]) => this[side].push(texts.join('; '))
    Object.assign(session, {
      script: (text: string) => {
        note(text)
        return script(text)
      },
      query: (statement: Sql) => {
        note(statement.text)
        return query(statement)
      },
      queries: (statements: readonly Sql[]) => {
        note(...statements.map((one) => one.text))
        return queries(statements)
      },
    })
  }
}
