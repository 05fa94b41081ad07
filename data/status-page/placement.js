// @ts-check
// The part of the page that says which host may run which site's work.

import { byId, element, emptyRow, put, putLevel, putRows, putTime, tableRow } from './elements.js'
import { count, full, since, span } from './figures.js'

const bindings = {
  prefer: { glyph: '●', words: 'prefers it' },
  allow: { glyph: '○', words: 'allowed' },
  none: { glyph: '·', words: 'not bound' },
  forbid: { glyph: '✕', words: 'forbidden' },
}
/** Why a host may or may not run it now, beside what the binding says. */
const reasons = {
  preferred_elsewhere: 'another active host prefers it',
  inactive: 'no worker is alive',
  draining: 'drained',
  host_full: 'the host is full',
  pair_full: 'as much of it runs as may',
  fallback_elapsed: 'may run now, its work has waited long enough',
}

export const siteLabel = (site) => (site === null ? 'no site' : site === '' ? 'default site' : site)

export function showPlacement(status) {
  const { placement } = status
  document.body.classList.toggle('siteless', placement.site_count === 0)
  putLevel(byId('placement-answer'), placement.level, placement.answer)
  fillAlerts(placement)
  fillMatrix(placement)
  fillRest(placement)
  fillHosts(status)
}

function fillAlerts({ alerts, alert_count: all }) {
  const more = all - alerts.length
  const lines = alerts.map((one) => ({ key: `${one.level} ${one.site}`, ...one }))
  if (more > 0) lines.push({ key: 'more', level: '', site: '', text: `And ${count(more)} more: yardmaster check` })
  putRows(
    byId('placement-alerts'),
    lines,
    (one) => one.key,
    () => element('li'),
    (row, one) => {
      row.className = one.level === '' ? 'muted' : `row-${one.level}`
      put(row, one.text)
    },
  )
}

function fillMatrix({ hosts, sites, site_count: named }) {
  const empty = named === 0 || hosts.length === 0
  byId('matrix-part').hidden = empty
  byId('matrix-legend').hidden = empty
  if (empty) return
  putRows(
    byId('matrix-hosts'),
    [null, ...hosts],
    (host) => (host === null ? 'site' : `host ${host.host}`),
    makeHead,
    (cell, host) => {
      if (host === null) return
      put(cell.children[0], host.host)
      put(cell.children[1], host.active ? '' : hostState(host).word)
      cell.classList.toggle('off', !host.active)
    },
  )
  putRows(byId('matrix'), sites, (one) => (one.site === null ? 'none' : `site ${one.site}`), makeSite, fillSite)
}

function makeHead(host) {
  const cell = element('th', host === null ? '' : 'host', host === null ? 'Site' : undefined)
  cell.scope = 'col'
  if (host !== null) cell.append(element('span', 'name'), element('span', 'note'))
  return cell
}

function makeSite() {
  const row = document.createElement('tr')
  const head = element('th', 'site-name')
  head.scope = 'row'
  head.append(element('span'), element('span', 'note'))
  row.append(head)
  return row
}

function fillSite(row, one) {
  row.className = one.stranded ? 'row-CRITICAL' : one.at_risk ? 'row-WARNING' : ''
  const [name, note] = row.children[0].children
  put(name, siteLabel(one.site))
  name.className = one.site === null || one.site === '' ? 'muted' : ''
  put(note, one.stranded ? '✕ no host' : one.at_risk ? '▲ one host left' : '')
  putCells(row, one.hosts)
}

/** Behind the row's head, a cell for each host. */
function putCells(row, pairs) {
  while (row.children.length > pairs.length + 1) row.lastElementChild.remove()
  while (row.children.length <= pairs.length) row.append(makePair())
  pairs.forEach((pair, index) => {
    fillPair(row.children[index + 1], pair)
  })
}

function makePair() {
  const cell = element('td', 'pair')
  const glyph = element('span', 'binding')
  glyph.setAttribute('aria-hidden', 'true')
  const running = element('span', 'load')
  running.setAttribute('aria-hidden', 'true')
  cell.append(glyph, running, element('span', 'spoken'))
  return cell
}

function fillPair(cell, pair) {
  const binding = bindings[pair.binding] ?? bindings.none
  const [glyph, running, spoken] = cell.children
  const words = wordsOf(pair, binding.words)
  put(glyph, binding.glyph)
  put(running, pair.running > 0 ? String(pair.running) : '')
  put(spoken, words)
  const title = `${pair.host}: ${words}`
  if (cell.title !== title) cell.title = title
  cell.className = `pair pair-${pair.binding}${pair.may_run ? ' may' : ''}`
}

function wordsOf(pair, words) {
  const reason = reasons[pair.code] ?? (pair.may_run ? 'may run now' : '')
  return [words, reason, pair.running > 0 ? `${pair.running} running` : ''].filter(Boolean).join(', ')
}

function fillRest({ hosts, host_count: allHosts, sites, site_count: allSites }) {
  const shown = sites.filter((one) => one.site !== null).length
  const left = [
    allSites > shown ? `${count(shown)} of ${count(allSites)} sites, those in trouble first` : '',
    allHosts > hosts.length ? `${count(hosts.length)} of ${count(allHosts)} hosts, active ones first` : '',
  ].filter(Boolean)
  byId('placement-rest').hidden = left.length === 0
  put(byId('placement-rest'), `Shown are ${left.join(', and ')}. All: yardmaster binding list, yardmaster host list.`)
}

function hostState(host) {
  if (host.drained) return { level: 'WARNING', word: 'drained' }
  if (host.active) return { level: 'OK', word: 'active' }
  return host.last_seen === null ? { level: 'UNKNOWN', word: 'not seen' } : { level: 'WARNING', word: 'no worker' }
}

function fillHosts(status) {
  const hosts = status.placement.hosts.length > 0 ? status.placement.hosts : [null]
  putRows(
    byId('hosts'),
    hosts,
    (host) => (host === null ? 'none' : `host ${host.host}`),
    (host) => (host === null ? emptyRow('No host is known.', 5) : makeHost()),
    (row, host) => host !== null && fillHost(row, host, status.at),
  )
}

function makeHost() {
  const row = tableRow(['level', '', 'number', 'number', 'number'])
  row.cells[1].append(element('span', 'name'), element('span', 'note'))
  return row
}

function fillHost(row, host, at) {
  const [state, name, running, workers, seen] = row.cells
  const { level, word } = hostState(host)
  putLevel(state, level, word)
  row.className = level === 'WARNING' ? 'row-WARNING' : ''
  put(name.children[0], host.host)
  put(name.children[1], host.drained ? `for ${span(since(at, host.drained_at))}, by ${host.drained_by}` : '')
  name.children[1].title = host.drained ? full(host.drained_at) : ''
  put(running, host.slots === null ? String(host.running) : `${host.running} of ${host.slots}`)
  put(workers, String(host.workers))
  if (host.last_seen === null) put(seen, 'not in the last week')
  else if (host.workers > 0) put(seen, 'now')
  else putTime(seen, `${span(since(at, host.last_seen))} ago`, host.last_seen)
}
