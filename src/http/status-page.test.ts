import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { request } from '../../test/support/http-request.ts'
import { Failure } from '../base/failure.ts'
import type { StatusDocument } from './status-document.ts'
import { StatusPage } from './status-page.ts'

const status: StatusDocument = {
  at: '2024-01-01T00:00:00.000Z',
  level: 'OK',
  answer: `Fine: <script>alert("1")</script> & 'so' on $& on`,
  about: [],
  alerts: [],
  alert_count: 0,
  replications: [],
  jobs: { level: 'OK', answer: 'No job yet.', jobs: [], count: 0 },
  placement: {
    ...{
      level: 'OK',
      answer: 'Nothing is bound: every host may run the work of every site.',
      alerts: [],
      alert_count: 0,
    },
    ...{ hosts: [], host_count: 0, sites: [], site_count: 0 },
  },
  workers: [],
  running: [],
  waiting: [],
  waiting_count: 0,
  runs: [],
}
const pages: StatusPage[] = []

afterEach(async () => {
  for (const page of pages.splice(0)) await page.stop()
})

async function startPage(read: () => Promise<StatusDocument>, port = 0, orNext = false): Promise<StatusPage> {
  const page = new StatusPage({ host: '127.0.0.1', port, orNext }, read)
  pages.push(page)
  await page.start()
  return page
}

describe('the status page', () => {
  it('serves JSON and HTML with the answer in it, as text', async () => {
    const { url } = await startPage(async () => status)
    const json = await request(`${url}status.json`)
    expect(json.headers['content-type']).toMatch('application/json')
    expect(JSON.parse(json.body)).toEqual(status)
    const html = await request(url)
    expect(html.headers['content-type']).toBe('text/html; charset=utf-8')
    expect(html.body).toContain(
      'Fine: &#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62; &#38; &#39;so&#39; on $&#38; on',
    )
    expect(html.body).not.toContain('<script>alert')
    // Where there is a script, the verdict comes with the numbers, not before them.
    expect(html.body.replaceAll(/<noscript>.*?<\/noscript>/gs, '')).not.toContain('Fine')
  })

  it('loads nothing but its own files, none of it inline', async () => {
    const { url } = await startPage(async () => status)
    const { headers, body } = await request(url)
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self';/)
    expect(headers['content-security-policy']).not.toMatch(/unsafe|\*|https?:/)
    expect(headers['access-control-allow-origin']).toBeUndefined()
    expect(body).not.toMatch(/<script(?![^>]* src="\/)|<style|\son\w+=|\sstyle=|https?:/)
    const named = [...body.matchAll(/(?:href|src)="([^"]+)"/g)].map((match) => match[1] ?? '')
    expect(named).toContain('/status.js')
    for (const path of new Set(named)) expect([path, (await request(new URL(path, url))).status]).toEqual([path, 200])
  })

  it('refuses names that are not its own, on every path', async () => {
    const { url } = await startPage(async () => status)
    for (const path of ['', 'status.json', 'status.js', 'nothing-here']) {
      const { status: code, body } = await request(`${url}${path}`, { host: 'evil.example' })
      expect([path, code]).toEqual([path, 421])
      expect(body).not.toContain('Fine')
    }
    expect((await request(`${url}status.json`, { host: 'localhost:1' })).status).toBe(200)
  })

  it('says what is wrong when the status cannot be read, and goes on', async () => {
    let broken = true
    const { url } = await startPage(async () => {
      if (broken) throw new Failure('control_unreachable', { message: 'It is away.' })
      return status
    })
    const answer = await request(`${url}status.json`)
    expect(answer.status).toBe(503)
    expect(JSON.parse(answer.body)).toMatchObject({ error: { code: 'control_unreachable', message: 'It is away.' } })
    expect((await request(url)).body).toContain('It is away.')
    broken = false
    expect((await request(`${url}status.json`)).status).toBe(200)
  })

  it('reads the status once for all who ask meanwhile', async () => {
    const gate = Promise.withResolvers<StatusDocument>()
    const asked = Promise.withResolvers<void>()
    let reads = 0
    const { url } = await startPage(() => {
      reads += 1
      asked.resolve()
      return gate.promise
    })
    // Two requests in one packet: the server has both before the first is answered.
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    const get = (more: string) => `GET /status.json HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`
    socket.write(get('') + get('Connection: close\r\n'))
    await asked.promise
    gate.resolve(status)
    expect((await text(socket)).match(/HTTP\/1.1 200/g)).toHaveLength(2)
    expect(reads).toBe(1)
  })

  it('takes the next port when one is taken, unless that one was asked for', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    const page = await startPage(async () => status, port, true)
    expect(Number(new URL(page.url).port)).toBeGreaterThan(port)
    await expect(startPage(async () => status, port)).rejects.toMatchObject({
      code: 'listen_failed',
      message: `Cannot listen on http://127.0.0.1:${port}/: it is taken by another program.`,
    })
    other.close()
  })

  it('stops with browsers that keep their connection open or never end their request, twice, and before it was started', async () => {
    const page = await startPage(async () => status)
    const { url } = page
    await fetch(`${url}status.json`)
    const half = connect(Number(new URL(url).port), '127.0.0.1')
    half.write('GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n')
    // Its headers have been read, its body never comes.
    await once(half, 'data')
    const gone = once(half, 'close')
    await page.stop()
    await gone
    await page.stop()
    await expect(request(url)).rejects.toThrow('ECONNREFUSED')
    await new StatusPage({ host: '127.0.0.1', port: 0, orNext: false }, async () => status).stop()
  })
})
