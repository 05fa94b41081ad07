import { Socket } from 'node:net'
import pg from 'pg'
import { CopyFrameFilter } from './copy-frames.ts'
import { MessageGuard } from './message-guard.ts'
import { ProtocolViolation } from './sqlstate.ts'

/** What one read takes from a socket at most. Fewer, larger reads cost less; one buffer a session keeps memory flat. */
const readBytes = 256 * 1024

/**
 * The driver's connection with the frame filter and the guard before its parser. Without TLS its socket reads into one
 * buffer that is used again and again; with TLS each read brings a buffer of its own.
 */
export class FilteredConnection extends pg.Connection {
  readonly filter: CopyFrameFilter
  /** Why we cut the connection; the driver forgets it when nothing runs at that moment. */
  violation: Error | undefined
  readonly #guard = new MessageGuard()
  readonly #receive: (bytes: Buffer) => void

  constructor(config: pg.ConnectionConfig) {
    const filter = new CopyFrameFilter()
    const receive = (bytes: Buffer) => {
      try {
        filter.push(bytes)
      } catch (error) {
        const said = error instanceof Error ? error : new Error(String(error))
        // What the driver's parser cannot read is the server's fault too; its words for a login it lacks are kept.
        const known = said instanceof ProtocolViolation || said.message.startsWith('Unknown authenticationOk')
        this.violation = known ? said : new ProtocolViolation(said.message, { cause: said })
        this.stream.destroy(this.violation)
      }
    }
    const onread = {
      buffer: Buffer.allocUnsafeSlow(readBytes),
      callback: (length: number, buffer: Uint8Array) => {
        receive((buffer as Buffer).subarray(0, length))
        return true
      },
    }
    super(config.ssl ? config : ({ ...config, stream: new Socket({ onread }) } as unknown as pg.ConnectionConfig))
    this.filter = filter
    this.#receive = receive
  }

  /** Whether answers may be as long as they like: whoever asks keeps nothing of them. Default: false. */
  set boundless(value: boolean) {
    this.#guard.boundless = value
  }

  /** The driver hands its socket over here when there is something to read. */
  attachListeners(stream: NodeJS.EventEmitter): void {
    const attach = (pg.Connection.prototype as unknown as { attachListeners(stream: unknown): void }).attachListeners
    this.filter.on('data', (bytes: Buffer) => this.#guard.push(bytes))
    attach.call(this, this.#guard)
    stream.on('data', this.#receive)
  }
}
