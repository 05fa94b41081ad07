import { readFile, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import type { Binaries } from './binaries.ts'

/** A start that failed with less than this free is put down to the disk: a WAL segment, which recovery may need. */
const leastFreeBytes = 16 * 1024 * 1024

/** What the file system's errors mean here; anything else is returned as it came. */
export function asFailure(error: unknown, directory: string): unknown {
  const { code, path, message } = error as NodeJS.ErrnoException
  if (error instanceof Failure || code === undefined) return error
  if (code === 'ENOSPC' || code === 'EDQUOT') return diskFull(directory, message)
  if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR', 'EEXIST', 'ENAMETOOLONG', 'ELOOP'].includes(code)) return error
  return new Failure('embedded_directory_unusable', {
    message: `The data directory ${directory} cannot be used: ${message}`,
    object: path ?? directory,
    cause: error,
  })
}

export function diskFull(directory: string, detail: string): Failure {
  return new Failure('disk_full', {
    message: `The file system of ${directory} has no room for the embedded PostgreSQL: ${detail}`,
    object: directory,
    remedy: `Free space there (df -h ${directory}) or give another directory with --data-dir, then run the command again.`,
  })
}

export function foreign(directory: string, why: string): Failure {
  return new Failure('embedded_directory_foreign', { message: `The directory ${directory} ${why}.`, object: directory })
}

export function otherMajor(directory: string, version: string, binaries: Binaries): Failure {
  return new Failure('embedded_version_mismatch', {
    message: `The data in ${directory} are of PostgreSQL ${version}; installed is PostgreSQL ${binaries.major} (${binaries.version}).`,
    object: directory,
    remedy: `Keep using the Yardmaster that brought PostgreSQL ${version} for these data, or dump them with pg_dump of version ${version} and load them into a new directory.`,
  })
}

export function portInUse(port: number, why: string): Failure {
  return new Failure('embedded_port_in_use', {
    message: `The embedded PostgreSQL cannot listen on 127.0.0.1:${port}: ${why}.`,
    object: `127.0.0.1:${port}`,
  })
}

/** With the last lines of the server's log. */
export async function startFailed(directory: string, ended: string): Promise<Failure> {
  const log = join(directory, 'server.log')
  const tail = (await readFile(log, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-6).join('\n')
  const room = await statfs(directory)
  if (room.bavail * room.bsize < leastFreeBytes || tail.includes('No space left on device')) {
    return diskFull(directory, `the server ended (${ended}):\n${tail}`)
  }
  return new Failure('embedded_start_failed', {
    message: `The embedded PostgreSQL in ${directory} did not come up (${ended}). The last lines of its log:\n${tail}`,
    object: directory,
    remedy: `Read ${log}.`,
  })
}
