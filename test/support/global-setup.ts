import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { EmbeddedServer } from '../../src/embedded/embedded-server.ts'
import { makeRunDirectory, removeDeadRuns, removeRunDirectory, testSettings } from './test-run.ts'

/**
 * One PostgreSQL 18 for the whole run. With YARDMASTER_TEST_KEEP=1 it is left running at the end, with the databases of
 * the tests that failed; the next run removes it.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeDeadRuns()
  const directory = await makeRunDirectory()
  const server = new EmbeddedServer({ directory: join(directory, 'main'), settings: testSettings })
  try {
    await server.start()
  } catch (error) {
    await removeRunDirectory(directory)
    throw error
  }
  project.provide('postgresUrl', server.url())
  project.provide('runDirectory', directory)
  return async () => {
    if (process.env.YARDMASTER_TEST_KEEP === '1') console.log(`kept for a look: ${server.url()}`)
    else await removeRunDirectory(directory)
  }
}
