import { randomBytes } from 'node:crypto'
import { access, chmod, mkdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { Failure } from '../base/failure.ts'
import type { Binaries } from './binaries.ts'
import { readIfThere, writeDurably } from './durable-file.ts'
import { foreign, otherMajor } from './embedded-failure.ts'
import { makeData } from './new-data.ts'
import { type Account, runProgram } from './program.ts'

/**
 * An embedded server's directory: `data`, `password`, `port`, `server.conf`, `server.log`, and the places
 * of those who use it.
 */
export interface DataDirectory {
  directory: string
  /** PostgreSQL's own data directory. */
  data: string
  /** Of the superuser; made at random, kept in `<directory>/password`, mode 0600. */
  password: string
}

/** Makes the directory when absent: 0711 as root (the server's user must pass through, no more), else 0700. */
export async function makeDirectory(directory: string): Promise<void> {
  const made = await makeFolders(resolve(directory))
  if (made) await chmod(directory, process.getuid?.() === 0 ? 0o711 : 0o700)
}

/** One level after the other: `recursive` never ends where a file system, such as /proc, answers "not found" to every mkdir. */
async function makeFolders(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return false
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    if (dirname(path) !== path) await makeFolders(dirname(path))
  }
  await mkdir(path, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
    // Somebody else made it meanwhile.
    if (error.code !== 'EEXIST') throw error
  })
  return true
}

/**
 * Checks that what is in the directory is ours and of the binaries' major version; makes what is absent. Only under the
 * mutex. Errors: `embedded_directory_foreign`, `embedded_directory_unusable`, `embedded_version_mismatch`, `disk_full`,
 * `embedded_start_failed`.
 */
export async function prepareData(
  directory: string,
  user: string,
  options: { binaries: Binaries; account: Account | undefined; sync: boolean },
): Promise<DataDirectory> {
  const data = join(directory, 'data')
  const version = (await readIfThere(join(data, 'PG_VERSION')))?.trim()
  const known = (await readIfThere(join(directory, 'password')))?.trim()
  if ((await readIfThere(join(directory, 'PG_VERSION'))) !== undefined)
    throw foreign(directory, 'is itself the data directory of another server')
  if (version === undefined && (await exists(data)))
    throw foreign(directory, 'has a folder `data` that is not PostgreSQL’s')
  if (version !== undefined && known === undefined)
    throw foreign(directory, 'has data of PostgreSQL, but not the file `password` that belongs to them')
  if (version !== undefined && Number.parseInt(version, 10) !== options.binaries.major)
    throw otherMajor(directory, version, options.binaries)
  const password = known ?? (await makePassword(directory))
  if (version === undefined) await makeData({ directory, data, password }, user, options)
  return { directory, data, password }
}

async function makePassword(directory: string): Promise<string> {
  const password = randomBytes(24).toString('base64url')
  await writeDurably(join(directory, 'password'), password)
  return password
}

/** As root: whether the server's account can enter the directory, which below root's home it cannot. */
export async function requireReachable(directory: string, account: Account | undefined): Promise<void> {
  if (account === undefined) return
  const { exitCode } = await runProgram('/bin/sh', ['-c', 'cd -- "$1"', 'sh', directory], account)
  if (exitCode === 0) return
  throw new Failure('embedded_directory_unusable', {
    message: `PostgreSQL runs under user id ${account.uid}, because it refuses to run as root; that user cannot enter ${directory}.`,
    object: directory,
    remedy: `Give a directory outside root's home, such as /var/lib/yardmaster, or let others pass: chmod o+x on ${directory} and the folders above it.`,
  })
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
}
