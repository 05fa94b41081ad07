import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { processStart } from './process-start.ts'

/**
 * A place that a process holds in a directory: one empty file, named by process id, process start and a nonce. It counts
 * for exactly as long as that process lives, so a process that was killed holds nothing, and a later process with the
 * same id is not taken for it. (Node has no `flock`; a lock file that is broken when stale has a race this one lacks:
 * nobody but its holder, or anybody once the holder is dead, ever removes a name, and no name comes twice.)
 */
export interface Place {
  readonly pid: number
  readonly file: string
}

/** Takes a place in `directory`, which is made when absent. Errors: those of `mkdir` and `open`. */
export async function takePlace(directory: string): Promise<Place> {
  const start = processStart(process.pid)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = join(directory, `${process.pid}-${start}-${randomBytes(6).toString('hex')}`)
  await writeFile(file, '', { flag: 'wx', mode: 0o600 })
  return { pid: process.pid, file }
}

/** Gives a place back. Twice is fine. */
export async function leavePlace(place: Place): Promise<void> {
  await rm(place.file, { force: true })
}

/** The places of living processes in `directory`, without `own`; those of dead ones are removed on the way. */
export async function livingPlaces(directory: string, own?: Place): Promise<Place[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const living: Place[] = []
  for (const name of names) {
    const file = join(directory, name)
    const [pid, start] = name.split('-')
    if (file === own?.file || pid === undefined || start === undefined) continue
    if (processStart(Number(pid)) === start) living.push({ pid: Number(pid), file })
    else await rm(file, { force: true })
  }
  return living
}
