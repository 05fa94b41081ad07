// @ts-check
// Asks for /status.json each second and changes the page in place. Every text comes in as text, never as HTML.

import { byId, element, emptyRow, glyphs, put, putLevel, putRows, putTime, tableRow } from './elements.js'
import { bytes, clock, count, duration, since, span } from './figures.js'
import { showAlerts, showJobs } from './jobs.js'
import { showPlacement, siteLabel } from './placement.js'

/** A worker's state as a level, for sign and colour. */
const workerLevels = { working: 'OK', missing: 'WARNING', lost: 'CRITICAL' }
const every = 1000
/** Milliseconds after which an answer is no longer waited for. */
const patience = 8000

let seen = null
let timer
let asking = false

function describe(one) {
  const reach = one.position === null ? '' : `up to ${one.position}`
  const site = one.site === null ? '' : `site ${siteLabel(one.site)}`
  const parts = [site, one.columns ? `only ${one.columns.join(', ')}` : '', one.condition ?? '', reach]
  return parts.filter(Boolean).join(' · ')
}

function makeReplication(one) {
  const row = tableRow(['level', 'copy', 'number', 'number', '', '', 'number'])
  row.cells[1].append(element('span', 'end', `${one.source} `), element('span', 'end', `→ ${one.destination}`))
  row.cells[1].append(element('span', 'note'), element('span', 'note trouble'))
  row.cells[2].append(element('span'), element('span', 'note'))
  row.cells[3].append(element('span'), element('span', 'note words'))
  return row
}

/** What is not known is a dash, never 0; a source without news is idle. */
function lagText(one) {
  if (one.lag_seconds === null) return '—'
  if (one.late) return `▲ ${span(one.lag_seconds)}`
  return one.idle ? 'idle' : span(one.lag_seconds)
}

function fillLag(cell, one) {
  const [lag, target] = cell.children
  put(lag, lagText(one))
  const known = one.idle ? `the source had nothing new ${span(one.lag_seconds)} ago` : 'behind the source'
  lag.title = one.lag_seconds === null ? 'not known' : known
  lag.className = one.late ? 'late' : ''
  const after = one.late_after_seconds
  put(target, after === null ? 'no target' : `late after ${span(after).replace(/ 00 s$/, '')}`)
}

function fillNext(cell, one, status) {
  put(cell.children[0], nextText(one, status))
  put(cell.children[1], one.schedule ?? 'no schedule')
}

function nextText(one, status) {
  if (status.running.some((run) => run.job_id === one.job_id)) return 'now'
  if (status.waiting.some((run) => run.job_id === one.job_id)) return 'waiting'
  if (one.next_start === null) return '—'
  const left = -since(status.at, one.next_start)
  return left < -1 ? `due since ${span(-left)}` : `in ${span(left)}`
}

function fillReplication(status) {
  return (row, one) => {
    const [level, copy, lag, next, type, last, rows] = row.cells
    const before = level.dataset.level
    putLevel(level, one.level)
    const troubled = one.level === 'WARNING' || one.level === 'CRITICAL'
    row.className = troubled ? `row-${one.level}` : ''
    if (before !== undefined && before !== one.level && troubled) row.classList.add('changed')
    put(copy.children[2], describe(one))
    put(copy.children[3], troubled ? one.note : '')
    put(type, one.type)
    fillLag(lag, one)
    fillNext(next, one, status)
    if (one.last_run) {
      const what = one.last_run.status === 'OK' ? one.note : one.last_run.status
      putTime(last, `${span(since(status.at, one.last_run.finished_at))} ago`, one.last_run.finished_at)
      last.title = what
    } else put(last, '—')
    put(rows, count(one.rows))
    rows.title = one.bytes === null ? '' : bytes(one.bytes)
  }
}

function makeWorker() {
  return tableRow(['level', 'name', 'name', 'number', 'number', 'number', 'number'])
}

function fillWorker(status) {
  return (row, worker) => {
    const [state, host, name, running, slots, beat, began] = row.cells
    putLevel(state, workerLevels[worker.state] ?? 'UNKNOWN', worker.state)
    row.className = worker.state === 'working' ? '' : `row-${workerLevels[worker.state]}`
    put(host, worker.host)
    put(name, worker.name)
    put(running, String(worker.running))
    put(slots, String(worker.slots))
    putTime(beat, `${span(since(status.at, worker.last_beat))} ago`, worker.last_beat)
    putTime(began, `${span(since(status.at, worker.started_at))} ago`, worker.started_at)
  }
}

function fillWorkers(status) {
  const workers = status.workers.length > 0 ? status.workers : [{ id: 'none' }]
  putRows(
    byId('workers'),
    workers,
    (one) => one.id,
    (one) => (one.id === 'none' ? emptyRow('No worker is there: nothing is refreshed by itself.', 7) : makeWorker()),
    (row, one) => one.id !== 'none' && fillWorker(status)(row, one),
  )
}

function fillWaiting(status) {
  const more = status.waiting_count - status.waiting.length
  put(byId('waiting-title'), more > 0 ? `Waiting: ${count(status.waiting_count)}, the first of them` : 'Waiting')
  const waiting = status.waiting.length > 0 ? status.waiting : [{ id: 'idle' }]
  putRows(
    byId('waiting'),
    waiting,
    (run) => run.id,
    (run) => (run.id === 'idle' ? idle() : makeRunning()),
    (row, run) => {
      if (run.id === 'idle') return put(row, 'Nothing.')
      put(row.children[0], `◷ ${run.operation} ${run.object}`)
      put(row.children[1], `${ofSite(run, status)}${span(since(status.at, run.since))} — ${run.why}`)
    },
  )
}

const stepText = (step) => `${step.action} ${duration(step.seconds)}`

function makeRun() {
  return tableRow(['level', 'number', 'copy', 'site', '', 'number', 'number', 'name', 'wide muted'])
}

function fillRun(row, run) {
  const [level, id, object, site, began, took, rows, host, steps] = row.cells
  putLevel(level, run.status)
  row.className = run.status === 'OK' ? '' : `row-${run.status}`
  put(id, run.id)
  put(object, `${run.operation} ${run.object}`)
  if (run.started_at) putTime(began, clock(run.started_at), run.started_at)
  put(took, duration(run.seconds))
  put(site, siteLabel(run.site))
  put(host, run.host === null ? '—' : run.attempt > 1 ? `${run.host}, attempt ${run.attempt}` : run.host)
  host.title = run.worker === null ? '' : `worker ${run.worker}`
  put(
    rows,
    ['skipped', 'nothing_new'].includes(run.reason) ? 'unchanged' : run.status === 'CRITICAL' ? '—' : count(run.rows),
  )
  put(steps, run.status === 'OK' ? run.steps.map(stepText).join(' · ') : (run.message ?? ''))
}

function makeRunning() {
  const row = element('div', 'run')
  const name = element('span', 'name')
  row.append(name, element('span', 'steps muted'))
  return row
}

/** Where nothing has a site, nothing is said of it. */
const ofSite = (run, status) => (status.placement.site_count > 0 ? `${siteLabel(run.site)} — ` : '')

function fillRunning(row, run, status) {
  const again = run.attempt > 1 ? `, attempt ${run.attempt}` : ''
  put(row.children[0], `◐ ${run.operation} ${run.object}`)
  const rate =
    run.rows_per_second === null ? '' : `${count(run.rows_per_second)} rows/s, ${bytes(run.bytes_per_second)}/s`
  const load = run.rows > 0 ? `${count(run.rows)} rows, ${bytes(run.bytes)}` : ''
  put(
    row.children[1],
    [
      `${ofSite(run, status)}${run.worker ?? ''}${again}`,
      duration(run.seconds),
      load,
      rate,
      run.steps.map(stepText).join(' · '),
    ]
      .filter(Boolean)
      .join(' — '),
  )
}

/** The tables first: the verdict must not stand over numbers that are not there yet. */
function show(status) {
  putRows(
    byId('about'),
    status.about,
    (one) => status.about.indexOf(one),
    () => element('p'),
    put,
  )
  putRows(byId('replications'), status.replications, (one) => one.job_id, makeReplication, fillReplication(status))
  showJobs(status)
  showAlerts(status)
  showPlacement(status)
  fillWorkers(status)
  fillWaiting(status)
  putRows(byId('runs'), status.runs, (run) => run.id, makeRun, fillRun)
  const running = status.running.length > 0 ? status.running : [{ id: 'idle' }]
  putRows(
    byId('running'),
    running,
    (run) => run.id,
    (run) => (run.id === 'idle' ? idle() : makeRunning()),
    (row, run) => {
      if (run.id !== 'idle') fillRunning(row, run, status)
      else put(row, idleText(status))
    },
  )
  const bad = [...status.replications, ...status.jobs.jobs].filter((one) => one.level === status.level).length
  putVerdict(status.level, status.answer, status.level === 'OK' ? 'fine' : `${bad || ''} ${status.level.toLowerCase()}`)
}

function putVerdict(level, answer, short) {
  document.title = `${glyphs[level]} ${short.trim()} · Yardmaster`
  put(byId('answer'), answer)
  put(byId('glyph'), glyphs[level] ?? '?')
  byId('glyph').className = `glyph level-${level}`
}

const idle = () => element('div', 'idle muted')

function idleText(status) {
  const copies = status.replications.map((one) => ({ ...one, name: one.destination }))
  const jobs = status.jobs.jobs.map((one) => ({ ...one, name: one.label }))
  const next = [...copies, ...jobs]
    .filter((one) => one.next_start && !status.waiting.some((run) => run.job_id === one.job_id))
    .sort((one, other) => (one.next_start < other.next_start ? -1 : 1))[0]
  return next ? `Nothing. Next: ${next.name}, ${nextText(next, status)}.` : 'Nothing.'
}

/** Yardmaster answers, and says why it cannot read the status. */
class Unreadable extends Error {}

async function look() {
  if (asking) return
  asking = true
  clearTimeout(timer)
  try {
    const answer = await fetch('/status.json', { cache: 'no-store', signal: AbortSignal.timeout(patience) })
    const status = await answer.json()
    if (!answer.ok) throw new Unreadable(status.error?.message)
    show(status)
    seen = status.at
    live('Live', false)
  } catch (error) {
    // What was fine a moment ago is not known to be fine now.
    const why = error instanceof Unreadable ? error.message : 'Yardmaster does not answer.'
    putVerdict('UNKNOWN', `${why} ${seen ? `The numbers are from ${clock(seen)}.` : ''}`.trim(), 'not known')
    live('Reconnecting', true)
  }
  asking = false
  if (!document.hidden) timer = setTimeout(() => void look(), every)
}

function live(text, away) {
  put(byId('live'), text)
  byId('live').classList.toggle('away', away)
  document.body.classList.toggle('away', away)
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden) void look()
})
put(byId('zone'), Intl.DateTimeFormat().resolvedOptions().timeZone)
void look()
