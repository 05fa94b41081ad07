import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import { Failure } from '../base/failure.ts'
import type { Service } from '../base/service.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { isOwnHost, type ListenAddress, urlOf } from './listen-address.ts'
import { probePaths, type Routes } from './metrics.ts'
import type { StatusDocument } from './status-document.ts'

const folder = new URL('../../data/status-page/', import.meta.url)
/** Ports that are tried one after the other where the first is taken. */
const portsToTry = 20

/** Nothing from anywhere else, nothing inline, in nobody's frame, read by nobody's page. */
const headers = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
} as const

const files = {
  '/status.css': 'text/css; charset=utf-8',
  '/status.js': 'text/javascript; charset=utf-8',
  '/jobs.js': 'text/javascript; charset=utf-8',
  '/placement.js': 'text/javascript; charset=utf-8',
  '/elements.js': 'text/javascript; charset=utf-8',
  '/figures.js': 'text/javascript; charset=utf-8',
  '/icon.svg': 'image/svg+xml',
} as const

/** The status as a page and as JSON. It reads and never changes anything, and holds no secret. */
export class StatusPage implements Service {
  readonly #listen: ListenAddress
  readonly #read: () => Promise<StatusDocument>
  readonly #routes: Routes
  #server: FastifyInstance | undefined
  #reading: Promise<StatusDocument> | undefined

  /** `routes`: what is served beside the page. */
  constructor(listen: ListenAddress, read: () => Promise<StatusDocument>, routes: Routes = () => undefined) {
    this.#listen = listen
    this.#read = read
    this.#routes = routes
  }

  /** Throws `listen_failed`. */
  async start(): Promise<void> {
    const { host, port, orNext } = this.#listen
    for (let at = port; ; at++) {
      const server = this.#build()
      try {
        await server.listen({ host, port: at })
        this.#server = server
        return
      } catch (error) {
        await server.close()
        const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
        if (!(taken && orNext && at < port + portsToTry)) throw listenFailed(host, at, error)
      }
    }
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.close()
  }

  /** Where the page is. */
  get url(): string {
    if (this.#server === undefined) throw new Error('the status page is not started')
    const { port } = this.#server.server.address() as AddressInfo
    return urlOf(this.#listen.host, port)
  }

  #build(): FastifyInstance {
    const server = fastify({ logger: false, forceCloseConnections: true, exposeHeadRoutes: true })
    // A reply is a thenable that is over when the answer is sent: it is returned, never awaited.
    server.addHook('onRequest', (request, reply, next) => {
      void reply.headers(headers)
      if (isOwnHost(request.headers.host) || probePaths.includes(request.url)) next()
      else
        void reply.code(421).type('text/plain; charset=utf-8').send('Open this page by its address, not by a name.\n')
    })
    for (const [path, type] of Object.entries(files)) {
      server.get(path, async (_, reply) => reply.type(type).send(await readFile(new URL(`.${path}`, folder), 'utf8')))
    }
    server.get('/', async (_, reply) => reply.type('text/html; charset=utf-8').send(await this.#html()))
    server.get('/status.json', async (_, reply) => this.#json(reply))
    this.#routes(server)
    return server
  }

  /** Everybody who asks while it is being read gets the same one. */
  async #status(): Promise<StatusDocument> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  async #json(reply: FastifyReply): Promise<unknown> {
    try {
      return await this.#status()
    } catch (error) {
      void reply.code(503)
      return { error: toFailure(error, { side: 'control', object: 'the control database' }) }
    }
  }

  /** The page with its answer in it; the rest comes by its script. */
  async #html(): Promise<string> {
    const page = await readFile(new URL('./status.html', folder), 'utf8')
    const answer = await this.#status().then(
      (status) => status.answer,
      (error) => toFailure(error, { side: 'control' }).message,
    )
    return page.replaceAll('{{answer}}', () => escapeHtml(answer))
  }
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

function listenFailed(host: string, port: number, error: unknown): Failure {
  const { code, message } = error as NodeJS.ErrnoException
  const why: Record<string, string> = {
    EADDRINUSE: 'it is taken by another program',
    EACCES: 'this user may not listen there',
    EADDRNOTAVAIL: 'this machine does not have that address',
  }
  return new Failure('listen_failed', {
    message: `Cannot listen on ${urlOf(host, port)}: ${why[code ?? ''] ?? message}.`,
    object: urlOf(host, port),
    cause: error,
  })
}
