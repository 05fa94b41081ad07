// @ts-check
// The parts of the page that show jobs other than replications, and alerts that are open.

import { byId, element, emptyRow, put, putLevel, putRows, putTime, tableRow } from './elements.js'
import { clock, count, duration, since, span } from './figures.js'
import { siteLabel } from './placement.js'

export function showJobs(status) {
  const { jobs, count: all } = status.jobs
  const rows = jobs.length > 0 ? jobs : [{ job_id: 'none' }]
  putRows(
    byId('jobs'),
    rows,
    (one) => one.job_id,
    (one) => (one.job_id === 'none' ? emptyRow('No job yet. Add one: yardmaster job add', 5) : makeJob()),
    (row, one) => one.job_id !== 'none' && fillJob(row, one, status),
  )
  const more = all - jobs.length
  byId('jobs-rest').hidden = more <= 0
  put(byId('jobs-rest'), `And ${count(more)} more, none of them worse: yardmaster job list`)
}

function makeJob() {
  const row = tableRow(['level', 'copy', 'number', 'number', 'number'])
  row.cells[1].append(element('span'), element('span', 'note'), element('span', 'note trouble'))
  row.cells[2].append(element('span'), element('span', 'note words'))
  row.cells[3].append(element('span'), element('span', 'note'))
  return row
}

function fillJob(row, one, status) {
  const [level, what, next, last, failures] = row.cells
  const before = level.dataset.level
  putLevel(level, one.level)
  const troubled = one.level === 'WARNING' || one.level === 'CRITICAL'
  row.className = troubled ? `row-${one.level}` : ''
  if (before !== undefined && before !== one.level && troubled) row.classList.add('changed')
  put(what.children[0], one.label)
  put(what.children[1], describe(one))
  put(what.children[2], troubled ? one.note : '')
  put(next.children[0], nextText(one, status))
  put(next.children[1], scheduleText(one))
  fillLast(last, one, status)
  put(failures, one.failures === 0 ? '—' : count(one.failures))
}

function describe(one) {
  const where = one.place === null ? '' : one.databases === 1 ? one.place : `${one.place} (${one.databases} databases)`
  const site = one.site === null ? '' : `site ${siteLabel(one.site)}`
  const after = one.after.map(({ job, awaited }) => (awaited ? `${job} (awaited)` : job)).join(', ')
  return [one.action, where, site, after === '' ? '' : `after ${after}`].filter(Boolean).join(' · ')
}

function scheduleText(one) {
  return one.schedule ?? (one.after.length > 0 ? 'after others' : 'when asked for')
}

function nextText(one, { at }) {
  const awaited = one.after.filter((other) => other.awaited).length
  if (one.running > 0) return 'now'
  if (one.status === 'paused') return 'paused'
  if (awaited > 0 && (one.waiting > 0 || one.next_start === null)) return `waits for ${awaited} of ${one.after.length}`
  if (one.waiting > 0) return 'waiting'
  if (one.next_start === null) return '—'
  const left = -since(at, one.next_start)
  return left < -1 ? `due since ${span(-left)}` : `in ${span(left)}`
}

function fillLast(cell, one, { at }) {
  const [when, how] = cell.children
  const run = one.last_run
  if (run === null) {
    put(when, 'never')
    put(how, '')
    return
  }
  putTime(when, `${span(since(at, run.finished_at))} ago`, run.finished_at)
  put(how, [run.status, run.seconds === null ? '' : duration(run.seconds)].filter(Boolean).join(', '))
}

export function showAlerts({ at, alerts, alert_count: all }) {
  byId('alerts-part').hidden = all === 0
  const more = all - alerts.length
  const lines = [...alerts, ...(more > 0 ? [{ id: 'more' }] : [])]
  putRows(
    byId('alerts'),
    lines,
    (one) => one.id,
    (one) => (one.id === 'more' ? element('li', 'muted') : makeAlert()),
    (row, one) =>
      one.id === 'more' ? put(row, `And ${count(more)} more: yardmaster alert list`) : fillAlert(row, one, at),
  )
}

function makeAlert() {
  const line = element('li')
  line.append(element('span', 'level'), element('span', 'name'), element('span'), element('span', 'note'))
  return line
}

function fillAlert(line, one, at) {
  const [level, object, text, rest] = line.children
  line.className = `row-${one.level}`
  putLevel(level, one.level)
  put(object, ` ${one.object} `)
  put(text, `${one.status}: ${one.text}`)
  const seen =
    one.acknowledged_at === null
      ? ''
      : `acknowledged by ${one.acknowledged_by}${one.note === null ? '' : `: ${one.note}`}`
  const silent = one.silenced_until === null ? '' : `silenced until ${clock(one.silenced_until)}`
  put(rest, [`alert ${one.id}, for ${span(since(at, one.since))}`, seen, silent].filter(Boolean).join(' · '))
}
