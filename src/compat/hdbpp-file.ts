import { readFile, stat } from 'node:fs/promises'
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type YAMLMap } from 'yaml'
import { Failure } from '../base/failure.ts'
import { nearest } from '../base/nearest.ts'
import { type ConnectionParts, isLoopback, type SslMode } from '../postgres/connection-url.ts'
import { printable } from '../postgres/identifier.ts'

/**
 * The file of hdbpp-postprocessing: YAML, one root key for each deployment. All that is wrong with it is found at once, and no
 * value is ever shown: one of them is a password. It is read as YAML 1.1, as the script read it, anchors and merge keys
 * included; what is not asked for is not expanded, so that aliases of aliases cost nothing.
 */

export interface HdbppDeployment {
  readonly name: string
  readonly connection: ConnectionParts
}

export interface HdbppFile {
  readonly deployments: readonly HdbppDeployment[]
  /** What is odd, and was as well with the script: a sentence each. */
  readonly notes: readonly string[]
}

interface Fault {
  readonly line: number | null
  readonly key: string
  readonly found: string
  readonly expected: string
}

/** Of a hundred deployments with comments, twenty times as much. */
const mostBytes = 1024 * 1024
/** Maps that merge keys (`<<`) may bring into one file. */
const mostMerges = 1000
const connectionKeys = ['user', 'password', 'host', 'port', 'database', 'sslmode', 'sslrootcert']
const sslModes: readonly string[] = ['disable', 'require', 'verify-ca', 'verify-full'] satisfies SslMode[]
/** What the script's parser read as a text though YAML 1.1 does not, and numbers of which it made the same text again. */
const meantAsText = /^(?:[yn]|0|[1-9]\d*|\d+e[-+]?\d+)$/i
const example = 'NAME: {connection: {user: hdb, host: localhost, database: hdb}}'

/** Reads a file. Throws `hdbpp_file_invalid` with all faults. */
export async function loadHdbppFile(path: string): Promise<HdbppFile> {
  const shown = printable(path)
  let text: string
  try {
    const { size } = await stat(path)
    if (size > mostBytes) throw new Error(`it has more than ${mostBytes / 1024 / 1024} MiB`)
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const known: Record<string, string> = {
      ENOENT: 'there is no such file',
      EACCES: 'this user may not read it',
      EISDIR: 'it is a folder',
      ERR_ENCODING_INVALID_ENCODED_DATA: 'it is not UTF-8',
    }
    throw new Failure('hdbpp_file_invalid', {
      message: `${shown} cannot be read: ${known[code ?? ''] ?? printable(message)}.`,
      object: shown,
      remedy: 'Name the file with -c FILE; deploy/hdbpp of the package has an example with comments.',
      cause: error,
    })
  }
  return readHdbppFile(shown, text)
}

/** Reads the text of a file; `file` is what messages call it. Throws `hdbpp_file_invalid` with all faults. */
export function readHdbppFile(file: string, text: string): HdbppFile {
  const reading = new Reading(text)
  const deployments = reading.deployments()
  if (reading.faults.length === 0) return { deployments, notes: reading.notes.map((note) => `${file}: ${note}`) }
  const lines = reading.faults.map(({ line, key, found, expected }) => {
    const place = line === null ? file : `${file}:${line}`
    return `${place}: ${key === '' ? '' : `${key}: `}found ${found}; expected ${expected}`
  })
  throw new Failure('hdbpp_file_invalid', {
    message: `${lines.length === 1 ? 'One fault' : `${lines.length} faults`}; nothing was run.\n${lines.join('\n')}`,
    object: file,
    errors: reading.faults.map((fault) => ({ file, ...fault })),
  })
}

/** A key's value as it stands in the file. */
type Value = unknown

/** One file while it is read. */
class Reading {
  readonly faults: Fault[] = []
  readonly notes: string[] = []
  readonly #lines = new LineCounter()
  readonly #document
  #merges = 0

  constructor(text: string) {
    this.#document = parseDocument(text, { version: '1.1', prettyErrors: false, lineCounter: this.#lines })
    // The parser's own messages quote the file, and with it passwords.
    for (const { code, pos } of [...this.#document.errors, ...this.#document.warnings]) {
      const [found, expected] = syntaxFault(code)
      this.faults.push({ line: this.#lineAt(pos[0]), key: '', found, expected })
    }
  }

  deployments(): HdbppDeployment[] {
    if (this.faults.length > 0) return []
    const root = this.#resolve(this.#document.contents)
    if (!isMap(root) || root.items.length === 0) {
      this.#fault(root, '', kindOf(root), `deployments by name: ${example}`)
      return []
    }
    return [...this.#entries(root)].flatMap(([name, value]) => this.#deployment(printable(name), value) ?? [])
  }

  #deployment(name: string, value: Value): HdbppDeployment | undefined {
    if (!isMap(value)) {
      this.#fault(value, name, kindOf(value), 'a map with the key connection')
      return undefined
    }
    const entries = this.#entries(value)
    this.#lookForUnknown(name, entries, ['connection'])
    const connection = entries.get('connection')
    if (!isMap(connection)) {
      const found = entries.has('connection') ? kindOf(connection) : 'nothing'
      this.#fault(
        connection ?? value,
        `${name}.connection`,
        found,
        'a map: {user: hdb, host: localhost, database: hdb}',
      )
      return undefined
    }
    const parts = this.#connection(`${name}.connection`, connection)
    return parts && { name, connection: parts }
  }

  #connection(key: string, map: YAMLMap): ConnectionParts | undefined {
    const before = this.faults.length
    const entries = this.#entries(map)
    this.#lookForUnknown(key, entries, connectionKeys)
    const text = (name: string) => this.#text(`${key}.${name}`, entries.get(name))
    const user = text('user')
    if (user === '' || isNothing(entries.get('user')))
      this.#fault(entries.get('user') ?? map, `${key}.user`, 'nothing', 'the user to connect as')
    const host = text('host') || 'localhost'
    if (/[\s,]/.test(host)) this.#fault(entries.get('host'), `${key}.host`, 'several words', 'one host or address')
    const password = text('password')
    const database = text('database') || 'hdb'
    const port = Number(text('port') || 5432)
    if (!Number.isInteger(port) || port < 1 || port > 65535)
      this.#fault(entries.get('port'), `${key}.port`, 'something else', 'a whole number from 1 to 65535')
    const sslMode = text('sslmode') || (isLoopback(host) ? 'disable' : 'verify-full')
    if (!sslModes.includes(sslMode))
      this.#fault(entries.get('sslmode'), `${key}.sslmode`, `'${printable(sslMode)}'`, sslModes.join(', '))
    const sslRootCert = text('sslrootcert') || undefined
    if (this.faults.length > before) return undefined
    // An empty password is none: it may stand in ~/.pgpass, as libpq has it.
    const parts = { host, port, user: user ?? '', password: password || undefined, database, sslRootCert }
    return { ...parts, sslMode: sslMode as SslMode }
  }

  /** Undefined where nothing is given. What YAML makes a number of is taken as it stands there, where that is certain. */
  #text(key: string, value: Value): string | undefined {
    if (isNothing(value)) return undefined
    if (isScalar(value)) {
      const { value: read, source } = value
      const text =
        typeof read === 'string' ? read : source !== undefined && meantAsText.test(source) ? source : undefined
      if (text !== undefined && !/\p{Cc}/u.test(text)) return text
      if (text !== undefined) {
        this.#fault(value, key, 'a control character', 'printable text on one line')
        return undefined
      }
    }
    this.#fault(value, key, kindOf(value), 'a text, in quotes where YAML reads something else')
    return undefined
  }

  /** A key that is nearly one of ours is a slip, and the default in its place may be another database. Others did nothing. */
  #lookForUnknown(key: string, entries: ReadonlyMap<string, Value>, known: readonly string[]): void {
    for (const [name, value] of entries) {
      if (known.includes(name)) continue
      const near = nearest(name, known)
      if (near && !entries.has(near))
        this.#fault(value, `${key}.${printable(name)}`, 'an unknown key', `${near}, if that is what was meant`)
      else this.notes.push(`${key}.${printable(name)} is no key that is known; it does nothing.`)
    }
  }

  /** Keys and values, those that `<<` brings included. */
  #entries(map: YAMLMap): Map<string, Value> {
    const own = new Map<string, Value>()
    const merged = new Map<string, Value>()
    for (const { key, value } of map.items) {
      const resolved = this.#resolve(value)
      const name = isScalar(key) ? (key.source ?? String(key.value)) : undefined
      if (name === '<<')
        for (const [inner, given] of this.#merge(resolved)) merged.has(inner) || merged.set(inner, given)
      else if (name !== undefined) own.set(name, resolved)
      else this.#fault(key, '', `${kindOf(key)} as a key`, 'a name')
    }
    return new Map([...merged, ...own])
  }

  #merge(value: Value): [string, Value][] {
    const maps = isSeq(value) ? value.items.map((item) => this.#resolve(item)) : [value]
    return maps.flatMap((map) => {
      this.#merges += 1
      if (this.#merges === mostMerges + 1)
        this.#fault(map, '', `more than ${mostMerges} merged maps`, 'a file without aliases of aliases')
      if (this.#merges > mostMerges) return []
      if (isMap(map)) return [...this.#entries(map)]
      this.#fault(map, '<<', kindOf(map), 'an alias of a map')
      return []
    })
  }

  #resolve(node: Value): Value {
    if (!isAlias(node)) return node ?? undefined
    const meant = node.resolve(this.#document)
    if (!meant) this.#fault(node, '', 'an alias of nothing', 'its anchor above it')
    return meant
  }

  #fault(node: Value, key: string, found: string, expected: string): void {
    const range = (node as { range?: readonly number[] | null } | undefined)?.range
    this.faults.push({ line: range ? this.#lineAt(range[0] ?? 0) : null, key, found, expected })
  }

  #lineAt(offset: number): number {
    return this.#lines.linePos(offset).line
  }
}

function syntaxFault(code: string): [found: string, expected: string] {
  switch (code) {
    case 'DUPLICATE_KEY':
      return ['a key that its map has already', 'each key once']
    case 'TAG_RESOLVE_FAILED':
      return ['a tag that YAML does not know', 'plain values, without tags']
    case 'MULTIPLE_DOCS':
      return ['a second document', 'one document']
    default:
      return [
        `what is no YAML (${code.toLowerCase().replaceAll('_', ' ')})`,
        "key: value, indented with spaces, and quotes around values with signs in them: 'p@ss: word'",
      ]
  }
}

function isNothing(value: Value): boolean {
  return value === undefined || (isScalar(value) && value.value === null)
}

function kindOf(node: Value): string {
  if (isMap(node)) return node.items.length === 0 ? 'an empty map' : 'a map'
  if (isSeq(node)) return 'a list'
  if (!isScalar(node) || node.value === null) return 'nothing'
  const { value } = node
  if (typeof value === 'string') return 'a text'
  if (typeof value === 'number') return 'a number'
  if (typeof value === 'boolean') return 'a truth value'
  return 'something that is neither text nor number'
}
