import { randomBytes } from 'node:crypto'
import { afterAll } from 'vitest'
import { type Control, openControl } from '../../src/control/control.ts'
import { SecretKey } from '../../src/control/secret-key.ts'
import { parseConnectionUrl } from '../../src/postgres/connection-url.ts'

const opened: Control[] = []

afterAll(async () => {
  for (const control of opened) await control.close()
})

/** A control database opened as the program does it; closed at the end of the test file. */
export async function openTestControl(url: string, key = new SecretKey(randomBytes(32), 'test')): Promise<Control> {
  const control = await openControl({ parts: parseConnectionUrl(url), actor: 'tester@here', face: 'CLI', key })
  opened.push(control)
  return control
}
