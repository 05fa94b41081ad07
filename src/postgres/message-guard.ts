import { EventEmitter } from 'node:events'
import { ProtocolViolation } from './sqlstate.ts'

const headerBytes = 5
const [errorTag, noticeTag, readyTag] = [0x45, 0x4e, 0x5a] // 'E', 'N', 'Z'
/** What a message costs beside its bytes when the driver makes objects of it. */
const perMessage = 64
/**
 * Bytes (and `perMessage` each) that one answer may have, from a statement to its end: rows, notices, settings. Rows of a
 * copy don't count. The largest answers that we ask for are catalogs; 10,000 partitions are 4 MB.
 */
export const maxAnswerBytes = 64 * 1024 * 1024

/**
 * Stands before the driver's parser, for servers that are not what they say: an endless answer would fill our memory, and
 * an error whose fields don't end makes the parser run for ever (pg-protocol 1.16). Emits `data` with whole messages only.
 */
export class MessageGuard extends EventEmitter {
  #chunks: Buffer[] = []
  #length = 0
  /** Bytes that must be there before anything can be handed on. */
  #needed = headerBytes
  #answer = 0
  /** Only single messages are bounded: nobody keeps what they hold. */
  boundless = false

  /** Throws `ProtocolViolation`. Keeps `bytes`: they must not be overwritten. */
  push(bytes: Buffer): void {
    this.#chunks.push(bytes)
    this.#length += bytes.length
    if (this.#length < this.#needed) return
    const all = this.#chunks.length === 1 ? bytes : Buffer.concat(this.#chunks)
    const end = this.#inspect(all)
    const rest = all.subarray(end)
    this.#chunks = rest.length === 0 ? [] : [rest]
    this.#length = rest.length
    if (end > 0) this.emit('data', end === all.length ? all : all.subarray(0, end))
  }

  /** Looks at each whole message; returns where the first begins that is not whole. */
  #inspect(bytes: Buffer): number {
    let at = 0
    for (;;) {
      this.#needed = headerBytes
      if (bytes.length - at < headerBytes) return at
      this.#needed = 1 + bytes.readUInt32BE(at + 1)
      if (bytes.length - at < this.#needed) return at
      this.#count(bytes[at] ?? 0, this.#needed)
      if (bytes[at] === errorTag || bytes[at] === noticeTag) requireFields(bytes, at + headerBytes, at + this.#needed)
      at += this.#needed
    }
  }

  #count(tag: number, length: number): void {
    this.#answer = tag === readyTag ? 0 : (this.boundless ? 0 : this.#answer) + length + perMessage
    if (this.#answer > maxAnswerBytes) {
      throw new ProtocolViolation(`The server's answer is longer than ${maxAnswerBytes} bytes and goes on.`)
    }
  }
}

/** Fields of an error or notice: a letter and a text that a NUL ends; a NUL ends the list, and with it the message. */
function requireFields(bytes: Buffer, from: number, end: number): void {
  let at = from
  while (at < end - 1 && bytes[at] !== 0) {
    const stop = bytes.indexOf(0, at + 1)
    if (stop === -1) break
    at = stop + 1
  }
  if (at !== end - 1 || bytes[at] !== 0)
    throw new ProtocolViolation('The server sent an error or notice that does not end.')
}
