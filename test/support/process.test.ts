import { expect, test } from 'vitest'
import { startNode } from './process.ts'

test('a clean environment, input, outputs and exit code', async () => {
  process.env.YARDMASTER_X = 'leaks'
  const script =
    'console.log(JSON.stringify(process.env)); process.stdin.on("data", (d) => console.error(String(d))).on("end", () => process.exit(3))'
  const result = await startNode(['-e', script], { env: { YARDMASTER_Y: 'given' }, input: 'hello' }).ended
  delete process.env.YARDMASTER_X
  expect(result.exitCode).toBe(3)
  expect(result.stderr).toBe('hello\n')
  const seen = result.json()
  expect(seen).toMatchObject({ YARDMASTER_Y: 'given', HOME: expect.stringContaining('home') })
  expect(Object.keys(seen)).not.toContain('YARDMASTER_X')
  expect(Object.keys(seen)).not.toContain('VITEST')
})

test('output is waited for; kill tells the signal', async () => {
  const cli = startNode(['-e', 'console.log("ready on 42"); setInterval(() => {}, 1000)'])
  expect((await cli.waitForOutput(/ready on (\d+)/))[1]).toBe('42')
  await expect(cli.waitForOutput(/never/, 50)).rejects.toThrow('50 ms passed')
  expect(await cli.kill('SIGKILL')).toMatchObject({ exitCode: null, signal: 'SIGKILL', stdout: 'ready on 42\n' })
  await expect(cli.waitForOutput(/never/)).rejects.toThrow('ended')
})

test('a deadline and an abort end it', async () => {
  const forever = ['-e', 'setInterval(() => {}, 1000)']
  expect((await startNode(forever, { deadlineMs: 100 }).ended).signal).toBe('SIGKILL')
  expect((await startNode(forever, { signal: AbortSignal.timeout(100) }).ended).signal).toBe('SIGTERM')
})
