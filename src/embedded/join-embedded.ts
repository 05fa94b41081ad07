import { existsSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { type EmbeddedOptions, EmbeddedServer } from './embedded-server.ts'
import { leavePlace, livingPlaces, takePlace } from './place.ts'

/** A server that is shared with other processes, until `leave`. */
export interface JoinedServer {
  /** A `postgresql://` URL with the superuser's name and password. Default database `postgres`. */
  url(database?: string): string
  readonly port: number
  readonly majorVersion: number
  /** Stops the server when no other living process uses it. Twice is fine. */
  leave(): Promise<void>
}

/**
 * Starts the embedded server of a directory, or joins the one that runs there, and makes those of `databases` that do
 * not exist yet. Whoever joins must leave; a process that was killed counts as gone. When the last one was killed, the
 * server keeps running until somebody else has joined and left. When the server was killed, the next join starts it
 * again, on the same port as far as that is free.
 *
 * Errors: those of `EmbeddedServer.start`.
 */
export async function joinEmbedded(
  options: EmbeddedOptions & { databases?: string[] },
  signal?: AbortSignal,
): Promise<JoinedServer> {
  const server = new EmbeddedServer(options)
  const places = join(server.directory, 'users')
  const place = await server.exclusively(async () => {
    const own = await takePlace(places)
    try {
      await server.startHeld(signal)
      await makeDatabases(server.url(), options.databases ?? [])
      return own
    } catch (error) {
      await leavePlace(own)
      throw error
    }
  }, signal)
  let left: Promise<void> | undefined
  const leave = async () => {
    // Somebody removed the server and its folder, which must not come back by our leaving it.
    if (!existsSync(place.file)) return
    await server.exclusively(async () => {
      await leavePlace(place)
      if ((await livingPlaces(places)).length === 0) await server.stopHeld('fast')
    })
  }
  return {
    url: (database) => server.url(database),
    port: server.port,
    majorVersion: server.majorVersion,
    leave: () => {
      left ??= leave()
      return left
    },
  }
}

async function makeDatabases(url: string, names: string[]): Promise<void> {
  if (names.length === 0) return
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ datname: string }>('select datname from pg_catalog.pg_database')
    for (const name of names) {
      if (!rows.some(({ datname }) => datname === name))
        await client.query(`create database ${pg.escapeIdentifier(name)}`)
    }
  } finally {
    await client.end()
  }
}
