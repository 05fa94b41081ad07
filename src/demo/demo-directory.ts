import { chmod, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbeddedServer } from '../embedded/embedded-server.ts'
import { processStart } from '../embedded/process-start.ts'

const prefix = 'yardmaster-demo-'

/**
 * Makes a demo's own folder inside `parent`, named by the process and its start, so that two demos never meet and the
 * folder of a killed one is known as such. As root the server's user may pass through it.
 */
export async function makeDemoDirectory(parent: string): Promise<string> {
  await mkdir(parent, { recursive: true })
  const directory = await mkdtemp(join(parent, `${prefix}${process.pid}-${processStart(process.pid)}-`))
  if (process.getuid?.() === 0) await chmod(directory, 0o711)
  return directory
}

/** Stops the server in a demo's folder, whoever uses it, and removes the folder. */
export async function removeDemoDirectory(directory: string): Promise<void> {
  await new EmbeddedServer({ directory }).stop({ mode: 'immediate' })
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
}

/** Removes what demos that were killed left in `parent`, their servers too; says a sentence for each. Other users' stay. */
export async function removeDeadDemos(parent: string): Promise<string[]> {
  const said: string[] = []
  for (const name of await readdir(parent).catch(() => [])) {
    const [pid, start] = name.startsWith(prefix) ? name.slice(prefix.length).split('-') : []
    const directory = join(parent, name)
    if (pid === undefined || start === undefined || processStart(Number(pid)) === start) continue
    const owner = await stat(directory).catch(() => undefined)
    if (owner === undefined || owner.uid !== process.getuid?.()) continue
    said.push(
      await removeDemoDirectory(directory).then(
        () => `Removed what a demo that was killed had left: ${directory}`,
        (error: Error) => `A demo that was killed left ${directory}, which cannot be removed: ${error.message}`,
      ),
    )
  }
  return said
}
