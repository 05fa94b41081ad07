import type pg from 'pg'

/** The driver's protocol calls that its type declarations leave out (pg 8.23, `lib/connection.js`). */
export interface Wire {
  connect(port: number | string, host?: string): void
  requestSsl(): void
  cancel(processId: number, secretKey: number): void
  parse(config: { text: string }): void
  bind(config: object): void
  describe(config: { type: 'P' | 'S'; name: string }): void
  execute(config: object): void
  sync(): void
  endCopyFrom(): void
  sendCopyFail(message: string): void
}

/** The same connection, with those calls. */
export function wireOf(connection: pg.Connection): Wire {
  return connection as unknown as Wire
}
