import { randomBytes } from 'node:crypto'
import {
  access,
  appendFile,
  chmod,
  chown,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  statfs,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import type { Binaries } from './binaries.ts'
import { type Account, runProgram } from './program.ts'

/** An embedded server's directory: `data`, `password`, `port`, `server.log`, and the places of those who use it. */
export interface DataDirectory {
  directory: string
  /** PostgreSQL's own data directory. */
  data: string
  /** Of the superuser; made at random, kept in `<directory>/password`, mode 0600. */
  password: string
}

/** What initdb writes (about 40 MB) with its first WAL, and a little room. */
const bytesForNewData = 80 * 1024 * 1024

/** Makes the directory when absent: 0711 as root (the server's user must pass through, no more), else 0700. */
export async function makeDirectory(directory: string): Promise<void> {
  const made = await mkdir(directory, { recursive: true, mode: 0o755 })
  if (made !== undefined) await chmod(directory, process.getuid?.() === 0 ? 0o711 : 0o700)
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
  await requireReachable(directory, options.account)
  const password = known ?? (await makePassword(directory))
  if (version === undefined) await makeData({ directory, data, password }, user, options)
  return { directory, data, password }
}

async function makePassword(directory: string): Promise<string> {
  const password = randomBytes(24).toString('base64url')
  await writeDurably(join(directory, 'password'), password)
  return password
}

/** Runs initdb in a sibling and renames, so that a kill in the middle leaves nothing that looks like data. */
async function makeData(
  target: DataDirectory,
  user: string,
  { binaries, account, sync }: { binaries: Binaries; account: Account | undefined; sync: boolean },
): Promise<void> {
  await requireRoom(target.directory)
  for (const name of await readdir(target.directory)) {
    if (name.startsWith('new-')) await rm(join(target.directory, name), { recursive: true, force: true })
  }
  const half = join(target.directory, `new-${randomBytes(4).toString('hex')}`)
  try {
    await mkdir(half, { mode: 0o700 })
    const passwordFile = join(half, 'password')
    await writeFile(passwordFile, target.password, { mode: 0o600 })
    if (account !== undefined) for (const path of [half, passwordFile]) await chown(path, account.uid, account.gid)
    await initialise(binaries, join(half, 'data'), { user, passwordFile, account, sync })
    await appendFile(join(half, 'data', 'postgresql.conf'), "\ninclude_if_exists = 'yardmaster.conf'\n")
    await rename(join(half, 'data'), target.data)
    if (sync) await syncFolder(target.directory)
  } finally {
    await rm(half, { recursive: true, force: true })
  }
}

async function initialise(
  binaries: Binaries,
  data: string,
  options: { user: string; passwordFile: string; account: Account | undefined; sync: boolean },
): Promise<void> {
  // The builtin provider (17 and later) sorts and folds the same on every machine; before it there is only plain C.
  const locale =
    binaries.major >= 17 ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C'] : ['--locale=C']
  const args = [
    '-D',
    data,
    '-U',
    options.user,
    '--auth=scram-sha-256',
    `--pwfile=${options.passwordFile}`,
    '--encoding=UTF8',
  ]
  if (!options.sync) args.push('--no-sync')
  const { exitCode, output } = await runProgram(
    join(binaries.directory, 'bin', 'initdb'),
    [...args, ...locale],
    options.account,
  )
  if (exitCode === 0) return
  if (output.includes('No space left on device') || output.includes('Disk quota exceeded')) throw diskFull(data, output)
  throw new Failure('embedded_start_failed', {
    message: `initdb could not make a data directory in ${data}: ${output.split('\n').slice(-5).join(' ')}`,
    object: data,
  })
}

async function requireRoom(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory)
  const free = bavail * bsize
  if (free < bytesForNewData)
    throw diskFull(directory, `${Math.floor(free / 1048576)} MB are free, ${bytesForNewData / 1048576} MB are needed`)
}

/** As root: whether the server's account can enter the directory, which below root's home it cannot. */
async function requireReachable(directory: string, account: Account | undefined): Promise<void> {
  if (account === undefined) return
  const { exitCode } = await runProgram('/bin/sh', ['-c', 'cd -- "$1"', 'sh', directory], account)
  if (exitCode === 0) return
  throw new Failure('embedded_directory_unusable', {
    message: `PostgreSQL runs under user id ${account.uid}, because it refuses to run as root; that user cannot enter ${directory}.`,
    object: directory,
    remedy: `Give a directory outside root's home, such as /var/lib/yardmaster, or let others pass: chmod o+x on ${directory} and the folders above it.`,
  })
}

/** What the file system's errors mean here; anything else is returned as it came. */
export function asFailure(error: unknown, directory: string): unknown {
  const { code, path, message } = error as NodeJS.ErrnoException
  if (error instanceof Failure || code === undefined) return error
  if (code === 'ENOSPC' || code === 'EDQUOT') return diskFull(directory, message)
  if (!['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENAMETOOLONG', 'ELOOP'].includes(code)) return error
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

function foreign(directory: string, why: string): Failure {
  return new Failure('embedded_directory_foreign', { message: `The directory ${directory} ${why}.`, object: directory })
}

function otherMajor(directory: string, version: string, binaries: Binaries): Failure {
  return new Failure('embedded_version_mismatch', {
    message: `The data in ${directory} are of PostgreSQL ${version}; installed is PostgreSQL ${binaries.major} (${binaries.version}).`,
    object: directory,
    remedy: `Keep using the Yardmaster that brought PostgreSQL ${version} for these data, or dump them with pg_dump of version ${version} and load them into a new directory.`,
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

/** The file's text; undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}

/** Writes a file of mode 0600 so that after a crash it is there whole or not at all. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const half = `${path}.new`
  const file = await open(half, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(half, path)
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().finally(() => folder.close())
}
