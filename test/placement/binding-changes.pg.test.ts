import { beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, postgres14 } from '../support/databases.ts'
import { type BindingRow, PlacementDesk } from './placement-desk.ts'

interface Change {
  id: string
  actor: string
  site: string
  host: string
  before: string | null
  after: string | null
  forced: boolean
  undoes: string | null
  undone_by: string | null
  recent: boolean
}

const setAll = 'select yardmaster.set_bindings($1, $2)'
const setOne = 'select yardmaster.set_binding($1, $2, $3, $4)'
const undo = 'select yardmaster.undo_bindings() as id'

function bind(site: string, host: string, binding: BindingRow['binding']): BindingRow {
  return { site, host, binding }
}

describe.each(['18', '14'])('changes of bindings on PostgreSQL %s', (version) => {
  let desk: PlacementDesk

  beforeAll(async () => {
    const server = version === '14' ? await postgres14() : { createDatabase }
    desk = await PlacementDesk.open(await server.createDatabase(`bindings ${version}`))
  })

  async function bound(): Promise<string[]> {
    const rows = await desk.rows<BindingRow>('select * from yardmaster.bindings order by site, host')
    return rows.map(({ site, host, binding }) => `${site} ${host} ${binding}`)
  }

  async function changes(): Promise<Change[]> {
    return desk.rows<Change>(
      "select *, at > clock_timestamp() - interval '1 minute' as recent from yardmaster.binding_changes order by id desc, site, host",
    )
  }

  test('one bad binding, and none of them is set', () =>
    desk.supposed(async () => {
      await desk.rows(`select yardmaster.set_host('dock', '{"addresses": ["10.0.0.7", "fd00::1b"]}')`)
      await desk.bind([bind('CEO', 'qa', 'prefer')])
      const before = await changes()
      const good = bind('QA', 'qa', 'allow')
      const faults: [unknown, string][] = [
        [null, 'YM003 Bindings are a JSON list of objects with site, host and binding.'],
        [good, 'YM003 Bindings are a JSON list of objects with site, host and binding.'],
        [[good, 'CEO,qa,prefer'], 'YM003 Bindings are a JSON list of objects with site, host and binding.'],
        [[good, { host: 'qa', binding: 'allow' }], 'YM003 A binding needs a site: work of no site runs on every host.'],
        [
          [good, bind('x'.repeat(201), 'qa', 'allow')],
          `YM003 A site's name has 200 bytes at most; ${'x'.repeat(40)}… has 201.`,
        ],
        [[good, bind('A', '', 'allow')], "YM003 A host cannot be called '': it is empty."],
        [[good, { site: 'A', binding: 'allow' }], 'YM003 A host cannot be called NULL: it is empty.'],
        [[good, bind('A', '=cmd', 'allow')], "YM003 A host cannot be called '=cmd': it begins with = + - or @."],
        [
          [good, bind('A', 'a\u202eb', 'allow')],
          "YM003 A host cannot be called 'a\u202eb': it has spaces, commas, semicolons, quotes or characters that can't be seen.",
        ],
        [[good, { ...good, host: 'b', binding: 'never' }], "YM003 A binding is prefer, allow or forbid, not 'never'."],
        [[good, { site: 'A', host: 'b' }], 'YM003 A binding is prefer, allow or forbid, not NULL.'],
        [[good, bind('QA', 'qa', 'allow')], 'YM003 QA is bound twice to qa.'],
        [[bind('', 'qa', 'allow'), bind('', 'qa', 'prefer')], 'YM003 the default site is bound twice to qa.'],
        [
          [good, bind('QA', 'dock', 'allow'), bind('QA', '10.0.0.7', 'allow')],
          'YM003 QA is bound twice to one host, named dock and 10.0.0.7.',
        ],
        [
          [bind('QA', 'fd00::1b', 'allow'), bind('QA', 'FD00:0:0::001B', 'forbid')],
          'YM003 QA is bound twice to one host, named fd00::1b and FD00:0:0::001B.',
        ],
        [
          [bind('QA', 'fd00::9', 'allow'), bind('QA', 'FD00:0::9', 'allow')],
          'YM003 QA is bound twice to one host, named fd00::9 and FD00:0::9.',
        ],
      ]
      for (const [wanted, refusal] of faults)
        expect(await desk.refused(setAll, [JSON.stringify(wanted), true])).toBe(refusal)
      expect(await bound()).toEqual(['CEO qa prefer'])
      expect(await changes()).toEqual(before)
    }))

  test('what would strand a site is refused and changes nothing, unless it is forced', () =>
    desk.supposed(async () => {
      for (const host of ['qa', 'lab']) await desk.start(host)
      await desk.bind([bind('CEO', 'qa', 'forbid')])
      const before = await changes()
      const stranding = [bind('CEO', 'qa', 'forbid'), bind('CEO', 'lab', 'forbid'), bind('QA', 'qa', 'prefer')]
      const text = 'No known host could run CEO then: every one forbids it, and its work would wait for ever.'
      for (const force of [false, null])
        expect(await desk.refused(setAll, [JSON.stringify(stranding), force])).toBe(`YM005 ${text}`)
      expect(await desk.refused(setOne, ['CEO', 'lab', 'forbid', false])).toBe(`YM005 ${text}`)
      expect(await bound()).toEqual(['CEO qa forbid'])
      expect(await changes()).toEqual(before)
      expect(await desk.bind(stranding, true)).toBe(2)
      expect((await changes()).slice(0, 2).map(({ forced }) => forced)).toEqual([true, true])
      // What is stranded already keeps nobody from changing something else, even a step towards its rescue.
      expect(await desk.bind([...stranding, bind('QA', 'lab', 'allow')])).toBe(1)
      expect((await changes())[0]?.forced).toBe(false)
      expect(await desk.bind([bind('CEO', 'qa', 'forbid')])).toBe(3)
    }))

  test('the audit says who changed what, from what, to what', () =>
    desk.supposed(async () => {
      await desk.bind([bind('A', 'h1', 'prefer'), bind('A', 'h2', 'forbid'), bind('B', 'h1', 'allow')])
      expect(await desk.bind([bind('A', 'h1', 'allow'), bind('A', 'h2', 'forbid'), bind('C', 'h3', 'prefer')])).toBe(3)
      const [first, ...rest] = await changes()
      expect([first, ...rest.slice(0, 2)]).toMatchObject([
        { actor: 'clerk@desk', site: 'A', host: 'h1', before: 'prefer', after: 'allow', forced: false, recent: true },
        { site: 'B', host: 'h1', before: 'allow', after: null, undoes: null, undone_by: null },
        { site: 'C', host: 'h3', before: null, after: 'prefer', id: first?.id },
      ])
      expect(rest).toHaveLength(5)
      // The same again is no change.
      const same = [bind('C', 'h3', 'prefer'), bind('A', 'h2', 'forbid'), bind('A', 'h1', 'allow')]
      expect(await desk.bind(same)).toBe(0)
      expect(await changes()).toHaveLength(6)
    }))

  test('undo goes back change by change', () =>
    desk.supposed(async () => {
      expect(await desk.refused(undo)).toBe('YM001 There is no change of bindings that could be undone.')
      await desk.start('h3')
      await desk.bind([bind('A', 'h1', 'prefer')])
      await desk.rows(setOne, ['A', 'h2', 'forbid', false])
      await desk.rows(setOne, ['A', 'h1', null, false])
      expect(await bound()).toEqual(['A h2 forbid'])
      const [third, second, first] = await changes()
      expect(await desk.rows(undo)).toEqual([{ id: third?.id }])
      expect(await bound()).toEqual(['A h1 prefer', 'A h2 forbid'])
      expect(await desk.rows(undo)).toEqual([{ id: second?.id }])
      expect(await bound()).toEqual(['A h1 prefer'])
      // A new change is undone before the older ones.
      await desk.bind([])
      expect(await bound()).toEqual([])
      await desk.rows(undo)
      expect(await bound()).toEqual(['A h1 prefer'])
      expect(await desk.rows(undo)).toEqual([{ id: first?.id }])
      expect(await bound()).toEqual([])
      expect(await desk.refused(undo)).toMatch(/^YM001/)
      const undone = (await changes()).filter((change) => change.undoes === null)
      expect(undone).toHaveLength(4)
      for (const change of undone) expect(change.undone_by).not.toBeNull()
    }))

  test('an undo that would strand a site is refused, and one that has nothing left to do is done', () =>
    desk.supposed(async () => {
      await desk.start('h1')
      const second = await desk.start('h2')
      await desk.rows(setOne, ['A', 'h1', 'forbid', false])
      await desk.rows(setOne, ['A', 'h1', null, false])
      await desk.rows('select yardmaster.end_worker($1)', [second])
      await desk.rows("delete from yardmaster.worker where host = 'h2'")
      expect(await desk.refused(undo)).toMatch(/^YM005 No known host could run A then/)
      expect(await bound()).toEqual([])
      await desk.rows('select yardmaster.undo_bindings(true)')
      expect(await bound()).toEqual(['A h1 forbid'])
      expect((await changes())[0]).toMatchObject({ forced: true })
      await desk.rows(setOne, ['B', 'h3', 'prefer', false])
      await desk.rows(setOne, ['B', '10.0.0.9', 'prefer', false])
      await desk.rows(`select yardmaster.set_host('h3', '{"addresses": ["10.0.0.9"]}')`)
      expect(await bound()).toEqual(['A h1 forbid', 'B h3 prefer'])
      for (const left of [['A h1 forbid'], ['A h1 forbid'], []]) {
        await desk.rows(undo)
        expect(await bound()).toEqual(left)
      }
      expect(await desk.refused(undo)).toMatch(/^YM001/)
    }))

  test('a binding by address is the host’s that has it, however it is written', () =>
    desk.supposed(async () => {
      await desk.bind([
        bind('A', 'FD00:0::1B', 'forbid'),
        bind('A', '10.0.0.7', 'prefer'),
        bind('B', '10.0.0.7', 'allow'),
      ])
      expect(await bound()).toEqual(['A 10.0.0.7 prefer', 'A fd00::1b forbid', 'B 10.0.0.7 allow'])
      const worker = await desk.start('10.0.0.7')
      const setHost = 'select yardmaster.set_host($1, $2)'
      expect(await desk.refused(setHost, ['dock', '{"addresses": ["10.0.0.7", "fd00:0:0:0::1b"]}'])).toBe(
        'YM002 Site A is bound twice then: prefer to dock, and forbid to fd00::1b.',
      )
      await desk.rows(setHost, ['dock', '{"addresses": ["10.0.0.7"]}'])
      expect(await bound()).toEqual(['A dock prefer', 'A fd00::1b forbid', 'B dock allow'])
      expect(await desk.rows('select host from yardmaster.workers where id = $1', [worker])).toEqual([{ host: 'dock' }])
      expect(await desk.refused(setHost, ['pier', '{"addresses": ["10.0.0.7"]}'])).toBe(
        "YM002 The address 10.0.0.7 is the host dock's already.",
      )
      expect(await desk.refused(setHost, ['pier', '{"addresses": ["10.0.0.0/24"]}'])).toBe(
        "YM003 '10.0.0.0/24' is no address of a host.",
      )
      await desk.rows(setOne, ['B', '10.0.0.7', 'forbid', false])
      expect(await bound()).toContain('B dock forbid')
      await desk.rows(setHost, ['lab', '{"addresses": ["fd00::1b"]}'])
      expect(await bound()).toContain('A lab forbid')
      await desk.rows(setOne, ['A', 'FD00::1B', null, false])
      expect(await bound()).toEqual(['A dock prefer', 'B dock forbid'])
    }))

  test('two changes at once are made one after the other, each on what the other left', async () => {
    for (const host of ['east', 'west']) await desk.start(host)
    // Known before, so that nothing but the changes' own lock makes one wait.
    await desk.rows("select yardmaster.name_site('Skew')")
    const [one, other] = [await desk.database.client(), await desk.database.client()]
    await one.query('begin')
    await one.query(setOne, ['Skew', 'east', 'forbid', false])
    const second = other.query(setOne, ['Skew', 'west', 'forbid', false]).then(
      () => 'set',
      (error: { code: string }) => error.code,
    )
    expect(await desk.waits(other, second)).toBe(true)
    await one.query('commit')
    expect(await second).toBe('YM005')
    expect(await bound()).toEqual(['Skew east forbid'])
  })
})
