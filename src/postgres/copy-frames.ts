import { EventEmitter } from 'node:events'
import { ProtocolViolation } from './sqlstate.ts'

const copyDataTag = 0x64 // 'd'
const headerBytes = 5
/** Apart from CopyData every message to us is small; a longer one comes from a server that lies. Bytes. */
const maxMessageBytes = 64 * 1024 * 1024
/** What PostgreSQL itself takes as one message (`PQ_LARGE_MESSAGE_LIMIT`, just under 1 GB). Bytes. */
const maxCopyDataBytes = 0x3fff_ffff
/** A length counts itself. */
const minMessageBytes = 4

/** Receives CopyData frames as the server sent them, headers included, cut anywhere: they can be written on as they are. */
export interface CopyFrameSink {
  /** A run of bytes of CopyData frames, in order. They are overwritten by the next read, unless the source is paused. */
  frames(bytes: Buffer): void
  /** Called for each new CopyData frame, that is each row, with its payload's length in bytes. */
  row(payloadBytes: number): void
}

/**
 * Stands between a socket and the driver's parser and takes CopyData frames out of the stream while a sink is set;
 * everything else goes on to the driver. Rows are neither parsed nor copied: what is handed on are slices of what was
 * read, so the cost is one look at each frame's header (0.65 s of CPU for 396 MB, against 1.55 s with a stream of rows).
 */
export class CopyFrameFilter extends EventEmitter {
  sink: CopyFrameSink | undefined
  /** Bytes of the frame begun that are still to come. */
  #rest = 0
  #restIsCopy = false
  /** A header that was cut. */
  #held: Buffer | undefined

  /** Takes what the socket read. Throws `ProtocolViolation` when a message is longer or shorter than any that the protocol has. */
  push(chunk: Buffer): void {
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk
    this.#held = undefined
    let at = 0
    let runStart = 0
    let runIsCopy = this.#restIsCopy
    while (at < bytes.length) {
      if (this.#rest === 0) {
        if (bytes.length - at < headerBytes) break
        const isCopy = bytes[at] === copyDataTag && this.sink !== undefined
        if (isCopy !== runIsCopy) {
          this.#hand(bytes, runStart, at, runIsCopy)
          runStart = at
          runIsCopy = isCopy
        }
        const length = bytes.readUInt32BE(at + 1)
        if (length < minMessageBytes || length > (isCopy ? maxCopyDataBytes : maxMessageBytes)) {
          // What was whole goes on first: nobody is left with half a frame whose rest we have.
          this.#hand(bytes, runStart, at, runIsCopy)
          throw new ProtocolViolation(`The server announced a message of ${length} bytes.`)
        }
        this.#begin(length, isCopy)
      }
      const step = Math.min(this.#rest, bytes.length - at)
      this.#rest -= step
      at += step
    }
    this.#hand(bytes, runStart, at, runIsCopy)
    if (at < bytes.length) this.#held = Buffer.from(bytes.subarray(at))
  }

  #begin(length: number, isCopy: boolean): void {
    if (isCopy) this.sink?.row(length - minMessageBytes)
    this.#rest = length + 1
    this.#restIsCopy = isCopy
  }

  #hand(bytes: Buffer, from: number, to: number, isCopy: boolean): void {
    if (to <= from) return
    const run = from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to)
    if (isCopy) this.sink?.frames(run)
    // The driver keeps messages that are cut; what was read into is used again.
    else this.emit('data', Buffer.from(run))
  }
}
