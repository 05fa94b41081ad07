import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, inject } from 'vitest'
import { EmbeddedServer } from '../../src/embedded/embedded-server.ts'
import type { PrivateServer } from './databases.ts'
import { removeServer, testSettings } from './test-run.ts'

const run = promisify(execFile)
const directories: string[] = []

afterAll(async () => {
  for (const directory of directories) await removeServer(directory)
})

/** A physical standby of a private server, which is stopped for a moment to be copied. Gone at the end of the test file. */
export async function startStandby(primary: PrivateServer): Promise<{ url: (database: string) => string }> {
  await primary.stop()
  const directory = await mkdtemp(join(inject('runDirectory'), 'standby-'))
  directories.push(directory)
  // With owners and modes: the server runs under another account when the tests run as root.
  await run('cp', ['-a', `${primary.directory}/.`, directory])
  await run('cp', ['-a', join(directory, 'data', 'PG_VERSION'), join(directory, 'data', 'standby.signal')])
  await rm(join(directory, 'port'), { force: true })
  await primary.restart()
  const server = new EmbeddedServer({ directory, settings: { ...testSettings, primary_conninfo: primary.url } })
  await server.start()
  return { url: (database) => server.url(database) }
}
