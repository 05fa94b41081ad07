import { readFileSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { ConnectionParts } from './connection-url.ts'

/** What a password file says of a connection. `ignored` says why it was not read, for the message of a login that failed. */
export interface FoundPassword {
  readonly file: string
  readonly password: string | undefined
  readonly ignored: string | undefined
}

/**
 * Looks a password up in `~/.pgpass`, or in the file that PGPASSFILE names, by libpq's rules: lines of
 * `host:port:database:user:password`, `*` for anything, `\:` and `\\` as escapes, first match counts; a file that others
 * may read is not used. Of a socket's connection the host is `localhost`.
 * Source: https://www.postgresql.org/docs/current/libpq-pgpass.html
 */
export function findPassword(parts: ConnectionParts, file = join(homedir(), '.pgpass')): FoundPassword {
  const nothing = { file, password: undefined }
  try {
    const { mode } = statSync(file)
    if ((mode & 0o077) !== 0) {
      return {
        ...nothing,
        ignored: `others may read it (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); chmod 0600 makes it count`,
      }
    }
    const wanted = [
      parts.host.startsWith('/') ? 'localhost' : parts.host,
      String(parts.port),
      parts.database,
      parts.user,
    ]
    for (const line of readFileSync(file, 'utf8').split(/\r?\n/)) {
      const fields = readFields(line)
      if (fields && wanted.every((value, index) => fields[index] === undefined || fields[index] === value))
        return { file, password: fields[4], ignored: undefined }
    }
    return { ...nothing, ignored: undefined }
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    return { ...nothing, ignored: absent ? undefined : (error as Error).message }
  }
}

/** Five fields, undefined for `*`; undefined for a comment or a line that is none. */
function readFields(line: string): (string | undefined)[] | undefined {
  if (line.startsWith('#')) return undefined
  const match = /^((?:[^:\\]|\\.)*):((?:[^:\\]|\\.)*):((?:[^:\\]|\\.)*):((?:[^:\\]|\\.)*):(.+)$/.exec(line)
  if (!match) return undefined
  return match
    .slice(1)
    .map((field, index) => (field === '*' && index < 4 ? undefined : field.replaceAll(/\\(.)/g, '$1')))
}
