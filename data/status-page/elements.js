// @ts-check
// What the page is made of. Every text comes in as text, never as HTML; only what differs is written.

import { full } from './figures.js'

export const glyphs = { OK: '✓', WARNING: '▲', CRITICAL: '✕', RUNNING: '◐', WAITING: '◷', UNKNOWN: '?' }

export const byId = (id) => document.getElementById(id)

/** Writes only what differs, so that a selection stays and nothing flickers. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function element(name, className, text) {
  const made = document.createElement(name)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}

export function putTime(cell, text, time) {
  let node = cell.querySelector('time')
  if (!node) {
    node = document.createElement('time')
    cell.replaceChildren(node)
  }
  put(node, text)
  if (node.dateTime !== time) {
    node.dateTime = time
    node.title = full(time)
  }
}

export function putLevel(cell, level, word = level) {
  if (cell.dataset.level === word) return
  cell.dataset.level = word
  cell.className = `level level-${level}`
  const mark = element('span', 'mark', glyphs[level] ?? '?')
  mark.setAttribute('aria-hidden', 'true')
  cell.replaceChildren(mark, word)
}

/** Rows by key, in the order of `items`; rows that stay are kept as they are. */
export function putRows(body, items, key, make, fill) {
  const rows = new Map([...body.children].map((row) => [row.dataset.key, row]))
  items.forEach((item, index) => {
    const name = String(key(item))
    const row = rows.get(name) ?? make(item)
    row.dataset.key = name
    rows.delete(name)
    fill(row, item)
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null)
  })
  for (const row of rows.values()) row.remove()
}

export function tableRow(classes) {
  const row = document.createElement('tr')
  row.append(...classes.map((name) => element('td', name)))
  return row
}

/** One row that says that there is none, as wide as the table. */
export function emptyRow(text, columns) {
  const row = document.createElement('tr')
  const cell = element('td', 'muted', text)
  cell.colSpan = columns
  row.append(cell)
  return row
}
