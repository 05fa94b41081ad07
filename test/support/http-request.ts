import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'

/** One GET, with any Host header (fetch does not let one set it), on a connection of its own. */
export function request(
  url: string | URL,
  options: { host?: string } = {},
): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = options.host === undefined ? {} : { host: options.host }
    const asked = httpRequest(url, { headers, agent: false, timeout: 20_000 }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      answer.once('error', reject)
      answer.once('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body }))
    })
    asked.once('timeout', () => asked.destroy(new Error(`no answer from ${url}`)))
    asked.once('error', reject)
    asked.end()
  })
}
