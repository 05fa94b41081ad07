import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { startServer } from '../support/databases.ts'
import { type RunningCli, startCli } from '../support/process.ts'
import { type BindingDesk, openBindingDesk } from './binding-desk.ts'

const text = (...rows: string[]) => ['site,host,binding', ...rows, ''].join('\n')

function watch(desk: BindingDesk, path: string, ...more: string[]): RunningCli {
  return startCli(['binding', 'apply', path, '--watch', ...more], { env: desk.environment })
}

/** The alerts of `check` about files. */
async function refusals(desk: BindingDesk): Promise<string[]> {
  const { json } = await desk.run('check', '--json')
  return json.alerts.flatMap((one: { alert_status: string; alert_text: string }) =>
    one.alert_status === 'bindings_refused' ? [one.alert_text] : [],
  )
}

describe('binding apply --watch', () => {
  it('applies a file at the start and whenever it is replaced; a bad edit keeps the last good set and raises an alert', async () => {
    const desk = await openBindingDesk('watch')
    const path = desk.file(['CEO,h1,prefer'])
    const watching = watch(desk, path)
    await watching.waitForOutput(/\+ CEO on h1: prefer/)
    expect(await desk.bound()).toEqual(['CEO h1 prefer'])

    writeFileSync(`${path}.new`, text('CEO,h2,prefer', 'QA,h1,forbid'))
    renameSync(`${path}.new`, path)
    await watching.waitForOutput(/\+ QA on h1: forbid/)
    expect(await desk.bound()).toEqual(['CEO h2 prefer', 'QA h1 forbid'])

    writeFileSync(path, text('CEO,h3,prefer', 'QA,h1,forbit', 'QA,h2'))
    await watching.waitForOutput(
      /Z \S*workers\.csv is refused\.\nError \[bindings_invalid\][\s\S]*:3: found the binding 'forbit'[\s\S]*:4: found 2 fields[\s\S]*stay in force/,
    )
    await expect
      .poll(() => refusals(desk), { timeout: 10_000 })
      .toEqual([expect.stringMatching(/stay in force: since .*workers\.csv on .*:3: found the binding 'forbit'/)])
    expect(await desk.bound()).toEqual(['CEO h2 prefer', 'QA h1 forbid'])

    // One that strands a site is no better.
    writeFileSync(path, text('CEO,h1,forbid', 'CEO,h2,forbid'))
    await watching.waitForOutput(/Error \[site_stranded\] .*CEO.*\nRemedy: Leave out what forbids site CEO on h[12]/)
    await expect
      .poll(() => refusals(desk), { timeout: 10_000 })
      .toEqual([expect.stringContaining('No known host could run CEO then')])

    rmSync(path)
    await watching.waitForOutput(/cannot be read: there is no such file/)

    writeFileSync(path, text('CEO,h4,prefer'))
    await watching.waitForOutput(/\+ CEO on h4: prefer/)
    expect(await desk.bound()).toEqual(['CEO h4 prefer'])
    expect(await refusals(desk)).toEqual([])
    expect((await watching.kill('SIGTERM')).exitCode).toBe(143)
  }, 60_000)

  it('applies nothing of a file that somebody is still writing', async () => {
    const desk = await openBindingDesk('watch writing')
    const path = desk.file(['CEO,h1,prefer'])
    const watching = watch(desk, path)
    await watching.waitForOutput(/\+ CEO on h1: prefer/)
    // Each of them is a whole file by its form.
    for (let count = 1; count <= 40; count += 1) {
      writeFileSync(path, text(...Array.from({ length: count }, (_, index) => `s${index},h1,allow`)))
      await new Promise((resolve) => setTimeout(resolve, 60))
    }
    await watching.waitForOutput(/^Plan: 40 to create.*$/m)
    expect(watching.stdout().match(/^Plan: .*$/gm)).toEqual([
      'Plan: 1 to create, 0 to change, 0 to replace, 0 to delete.',
      'Plan: 40 to create, 0 to change, 0 to replace, 1 to delete.',
    ])
  }, 60_000)

  it('with --json prints one document a line, and ends with 130 on Ctrl-C', async () => {
    const desk = await openBindingDesk('watch json')
    const path = desk.file(['CEO,h1,prefer'])
    const watching = watch(desk, path, '--json')
    await watching.waitForOutput(/"event":"applied".*\n/)
    writeFileSync(path, text('CEO,h1,never'))
    await watching.waitForOutput(/"event":"refused".*\n/)
    const { exitCode, stdout } = await watching.kill('SIGINT')
    expect(exitCode).toBe(130)
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { event: 'applied', file: path, applied: true, changes: [{ op: 'create', site: 'CEO', host: 'h1' }] },
      { event: 'refused', file: path, error: { code: 'bindings_invalid', errors: [{ line: 2 }] } },
    ])
  }, 60_000)

  it('waits for a control database that is away, and can be ended meanwhile', async () => {
    const server = await startServer()
    const database = await server.createDatabase('watch away')
    const environment = { YARDMASTER_CONTROL_URL: database.url, YARDMASTER_KEY: '5e'.repeat(32) }
    const desk = await openBindingDesk('watch files')
    const path = desk.file(['CEO,h1,prefer'])
    const watching = startCli(['binding', 'apply', path, '--watch'], { env: environment })
    await watching.waitForOutput(/\+ CEO on h1: prefer/)
    await server.stop('immediate')
    writeFileSync(path, text('CEO,h2,prefer'))
    await watching.waitForOutput(/Waiting for the control database/)
    await server.restart()
    await watching.waitForOutput(/\+ CEO on h2: prefer/)
    await server.stop('immediate')
    writeFileSync(path, text('CEO,h3,prefer'))
    await watching.waitForOutput(/Waiting for the control database[\s\S]*Waiting for the control database/)
    const stopped = performance.now()
    expect((await watching.kill('SIGTERM')).exitCode).toBe(143)
    expect(performance.now() - stopped).toBeLessThan(3000)
    // Its databases are dropped behind the test.
    await server.restart()
  }, 90_000)

  it('refuses to begin where nothing may be written', async () => {
    const desk = await openBindingDesk('watch usage')
    const { code, err } = await desk.run('binding', 'apply', desk.file([]), '--watch', '--dry-run')
    expect([code, err]).toEqual([2, expect.stringContaining('--dry-run applies nothing')])
  })
})
