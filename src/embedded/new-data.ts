import { randomBytes } from 'node:crypto'
import { chown, mkdir, readdir, rename, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import type { Binaries } from './binaries.ts'
import { syncFolder } from './durable-file.ts'
import { diskFull } from './embedded-failure.ts'
import { type Account, runProgram } from './program.ts'

/** What initdb writes (about 40 MB) with its first WAL, and a little room. */
const bytesForNewData = 80 * 1024 * 1024

/** Runs initdb in a sibling and renames, so that a kill in the middle leaves nothing that looks like data. */
export async function makeData(
  target: { directory: string; data: string; password: string },
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
    if (account !== undefined) for (const path of [passwordFile, half]) await chown(path, account.uid, account.gid)
    await initialise(binaries, join(half, 'data'), { user, passwordFile, account, sync })
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
