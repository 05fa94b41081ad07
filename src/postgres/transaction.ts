import type { Session } from './connect.ts'

/** Runs `body` in a transaction of this session. A failure rolls back; the connection may be gone by then. */
export async function inTransaction<Result>(
  session: Session,
  begin: string,
  body: () => Promise<Result>,
): Promise<Result> {
  await session.script(begin)
  let result: Result
  try {
    result = await body()
  } catch (error) {
    await session.script('rollback').catch(() => undefined)
    throw error
  }
  await session.script('commit')
  return result
}
