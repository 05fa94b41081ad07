import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Failure } from '../base/failure.ts'
import { connect, type Session, type SessionOptions } from '../postgres/connect.ts'
import { type ConnectionParts, displayUrl, parseConnectionUrl } from '../postgres/connection-url.ts'
import { printable } from '../postgres/identifier.ts'
import { sql } from '../postgres/sql.ts'
import type { Control } from './control.ts'

/** A registered database as views show it: without its password. */
export interface ManagedDatabase {
  readonly id: string
  readonly name: string
  readonly tags: string[]
  /** Without password, or a reference: `env:NAME`, `file:PATH`. */
  readonly url: string
  readonly has_stored_password: boolean
  readonly version: number
}

/** Reads what a reference points to. An entry point hands it in, so that nothing below reads the environment. */
export type Environment = (name: string) => string | undefined

/** What a connection is tried with before it is kept. */
export interface Trial {
  readonly environment: Environment
  readonly signal: AbortSignal
}

export async function listDatabases(control: Control): Promise<ManagedDatabase[]> {
  return control.session.query<ManagedDatabase>(
    sql`select id, name, tags, url, has_stored_password, version from yardmaster.databases order by name`,
  )
}

/** Throws `database_unknown`, with the nearest names. */
export async function getDatabase(control: Control, name: string): Promise<ManagedDatabase> {
  const all = await listDatabases(control)
  const found = all.find((database) => database.name === name)
  if (found) return found
  const known = all.map((database) => database.name)
  throw new Failure('database_unknown', {
    message: `There is no database '${printable(name)}'${known.length > 0 ? `; registered are ${known.join(', ')}` : ''}.`,
    object: printable(name),
    remedy: `Register it: yardmaster database add ${printable(name)} postgresql://user@host:5432/database`,
  })
}

/**
 * Registers a database. The URL's password is encrypted before it leaves this process. With `tryWith` the connection is
 * tried first, with references read from there; where it fails, nothing is kept.
 */
export async function addDatabase(
  control: Control,
  name: string,
  url: string,
  tags: readonly string[],
  tryWith?: Trial,
): Promise<ManagedDatabase> {
  if (!/^[a-z0-9][a-z0-9_.-]{0,62}$/.test(name)) {
    throw new Failure('name_invalid', {
      message: `'${printable(name)}' cannot be the name of a registered database.`,
      object: printable(name),
      remedy: 'Use lower-case letters, digits, dot, dash and underscore, at most 63, for example: dwh',
    })
  }
  const known = (await listDatabases(control)).some((database) => database.name === name)
  if (known) throw databaseExists(name)
  const stored = storeUrl(control, url)
  if (tryWith) await tryUrl(name, url, tryWith)
  try {
    await control.session.query(sql`
      select yardmaster.add_database(${name}, ${stored.url}, ${[...tags]}::text[],
        ${stored.secretId}::uuid, ${stored.keyId}::text, ${stored.ciphertext}::bytea)`)
  } catch (error) {
    const failure = control.session.failure(error)
    throw failure.sqlstate === '23505' ? databaseExists(name) : failure
  }
  return getDatabase(control, name)
}

function databaseExists(name: string): Failure {
  return new Failure('database_exists', { message: `A database '${name}' is registered already.`, object: name })
}

async function tryUrl(name: string, url: string, { environment, signal }: Trial): Promise<void> {
  const parts = parseConnectionUrl(followReference(url, name, environment))
  const session = await connect(parts, sessionOptions(name, environment, { side: 'database', purpose: 'test', signal }))
  await session.end()
}

function sessionOptions(
  name: string,
  environment: Environment,
  options: Omit<SessionOptions, 'object' | 'passwordFile'>,
): SessionOptions {
  return { ...options, object: name, passwordFile: environment('PGPASSFILE') || undefined }
}

/** Changes URL or tags. A new URL without a password leaves none stored: no password moves to another host. `tryWith` as above. */
export async function alterDatabase(
  control: Control,
  name: string,
  changes: { url?: string | undefined; tags?: readonly string[] | undefined },
  tryWith?: Trial,
): Promise<ManagedDatabase> {
  await getDatabase(control, name)
  const stored = changes.url === undefined ? undefined : storeUrl(control, changes.url)
  if (changes.url !== undefined && tryWith) await tryUrl(name, changes.url, tryWith)
  await control.session.query(sql`
    select yardmaster.alter_database(${name}, ${stored?.url ?? null}::text, ${changes.tags ? [...changes.tags] : null}::text[],
      ${stored?.secretId ?? null}::uuid, ${stored?.keyId ?? null}::text, ${stored?.ciphertext ?? null}::bytea)`)
  return getDatabase(control, name)
}

/** Forgets a database that nothing uses. Throws `database_unknown`, `database_in_use`. */
export async function removeDatabase(control: Control, name: string): Promise<void> {
  await getDatabase(control, name)
  try {
    await control.session.query(sql`select yardmaster.remove_database(${name})`)
  } catch (error) {
    const failure = control.session.failure(error)
    if (failure.sqlstate !== 'YM002') throw failure
    throw new Failure('database_in_use', { message: failure.message, object: name })
  }
}

interface AddressRow {
  url: string
  secret_id: string | null
  key_id: string
  ciphertext: Buffer
}

/**
 * Host, user, password and the rest, with references followed and the stored password opened. A control database that is away
 * is waited for, `patience` milliseconds at most.
 */
export async function connectionParts(
  control: Control,
  name: string,
  environment: Environment,
  patience = 0,
): Promise<ConnectionParts> {
  const select = sql`
    select d.url, d.secret_id, s.key_id, s.ciphertext
    from yardmaster.managed_database d left join yardmaster.secret s on s.id = d.secret_id where d.name = ${name}`
  const row = await control.perform((session) => session.first<AddressRow>(select), patience)
  if (!row) {
    await getDatabase(control, name)
    throw new Failure('database_unknown', { message: `There is no database '${printable(name)}'.`, object: name })
  }
  const parts = parseConnectionUrl(followReference(row.url, name, environment))
  if (row.secret_id === null) return parts
  return {
    ...parts,
    password: control.key.decrypt(row.ciphertext, secretOwner(row.secret_id, row.url), row.key_id, name),
  }
}

/** Opens a session on a registered database; failures name it. */
export async function connectDatabase(
  control: Control,
  name: string,
  environment: Environment,
  options: Omit<SessionOptions, 'object' | 'passwordFile'>,
): Promise<Session> {
  return connect(await connectionParts(control, name, environment), sessionOptions(name, environment, options))
}

/** What a ciphertext opens for: its row, and the URL it was given with. Another host under the same row does not get it. */
function secretOwner(secretId: string, url: string): string {
  return `${secretId} ${url}`
}

const reference = /^(env|file):(.*)$/s

function storeUrl(control: Control, url: string) {
  const nothing = { secretId: null, keyId: null, ciphertext: null }
  const [, kind, target = ''] = reference.exec(url) ?? []
  if (kind === 'env') {
    requireOrdinaryVariable(target)
    return { url, ...nothing }
  }
  // Workers run in other folders than the command.
  if (kind === 'file') return { url: `file:${resolve(target)}`, ...nothing }
  const parts = parseConnectionUrl(url)
  const plain = displayUrl(parts)
  if (parts.password === undefined) return { url: plain, ...nothing }
  const secretId = randomUUID()
  const ciphertext = control.key.encrypt(parts.password, secretOwner(secretId, plain))
  return { url: plain, secretId, keyId: control.key.id, ciphertext }
}

/** A database must not be a way to read the key, or to register the control database under a name. */
function requireOrdinaryVariable(variable: string): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(variable)) {
    throw new Failure('url_invalid', {
      message: `'env:${printable(variable)}' names no environment variable.`,
      remedy: 'Write env:NAME, for example env:CRM_URL.',
    })
  }
  if (variable.startsWith('YARDMASTER_')) {
    throw new Failure('url_invalid', {
      message: `env:${variable} refers to one of Yardmaster's own settings.`,
      remedy: 'Give the variable another name.',
    })
  }
}

function followReference(url: string, name: string, environment: Environment): string {
  const [, kind, target = ''] = reference.exec(url) ?? []
  if (kind === undefined) return url
  if (kind === 'env') requireOrdinaryVariable(target)
  try {
    const found = kind === 'env' ? environment(target) : readFileSync(target, 'utf8').trim()
    if (found !== undefined && found !== '') return found
  } catch (error) {
    throw new Failure('reference_unreadable', {
      message: `${printable(url)}: ${(error as Error).message}`,
      object: name,
      cause: error,
    })
  }
  throw new Failure('reference_unreadable', {
    message: `${printable(url)} is empty or not set in this process.`,
    object: name,
  })
}
