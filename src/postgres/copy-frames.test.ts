import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CopyFrameFilter } from './copy-frames.ts'
import { ProtocolViolation } from './sqlstate.ts'

/** One message of the protocol: a tag, a length that counts itself, a body. */
function message(tag: string, body: Uint8Array, length = body.length + 4): Buffer {
  const header = Buffer.alloc(5)
  header.write(tag, 'latin1')
  header.writeUInt32BE(length, 1)
  return Buffer.concat([header, body])
}

/** What came out of a filter: frames for the destination, and bytes for the driver. */
class Outlet {
  frames = Buffer.alloc(0)
  driver = Buffer.alloc(0)
  readonly rows: number[] = []
  /** In the order of the stream: 'c' for a run of frames, 'd' for a run to the driver. */
  order = ''
  readonly filter = new CopyFrameFilter()

  constructor(withSink = true) {
    this.filter.on('data', (bytes: Buffer) => {
      this.driver = Buffer.concat([this.driver, bytes])
      this.order += 'd'
    })
    if (!withSink) return
    this.filter.sink = {
      row: (bytes) => this.rows.push(bytes),
      frames: (bytes) => {
        this.frames = Buffer.concat([this.frames, bytes])
        this.order += 'c'
      },
    }
  }

  /** Hands each piece in one buffer that is used again, as a session's socket does. */
  read(pieces: readonly Buffer[]): this {
    const buffer = Buffer.alloc(Math.max(1, ...pieces.map((piece) => piece.length)))
    for (const piece of pieces) {
      piece.copy(buffer)
      this.filter.push(buffer.subarray(0, piece.length))
      buffer.fill(0xee)
    }
    return this
  }
}

/** Cuts at each position that is named, modulo the length. */
function cut(bytes: Buffer, positions: readonly number[]): Buffer[] {
  const at = [...new Set(positions.map((position) => position % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length))
}

const messages = fc.array(
  fc.record({ tag: fc.constantFrom('d', 'd', 'd', 'c', 'C', 'Z', 'N', 'T'), body: fc.uint8Array({ maxLength: 20 }) }),
  { maxLength: 12 },
)

describe('frames', () => {
  test('cut at any byte, they arrive as they are, rows counted, and the driver gets the rest', () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat(400), { maxLength: 30 }), (sent, positions) => {
        const parts = sent.map(({ tag, body }) => ({ tag, bytes: message(tag, body) }))
        const outlet = new Outlet().read(cut(Buffer.concat(parts.map((part) => part.bytes)), positions))
        const of = (copy: boolean) =>
          Buffer.concat(parts.filter((part) => (part.tag === 'd') === copy).map((p) => p.bytes))
        expect(outlet.frames).toEqual(of(true))
        expect(outlet.driver).toEqual(of(false))
        expect(outlet.rows).toEqual(sent.filter((one) => one.tag === 'd').map((one) => one.body.length))
      }),
      { numRuns: 500 },
    )
  })

  test('byte by byte, and in every two pieces', () => {
    const stream = Buffer.concat([
      message('H', Buffer.from([1, 0, 0])),
      message('d', Buffer.from('row one')),
      message('d', Buffer.alloc(0)),
      message('d', Buffer.from('dd')),
      message('c', Buffer.alloc(0)),
      message('C', Buffer.from('COPY 3\0')),
    ])
    const whole = new Outlet().read([stream])
    expect(whole.rows).toEqual([7, 0, 2])
    expect(whole.order).toBe('dcd')
    const single = new Outlet().read(Array.from(stream, (byte) => Buffer.from([byte])))
    expect([single.frames, single.driver, single.rows]).toEqual([whole.frames, whole.driver, whole.rows])
    for (let at = 0; at <= stream.length; at++) {
      const cutOnce = new Outlet().read([stream.subarray(0, at), stream.subarray(at)])
      expect([cutOnce.frames, cutOnce.driver, cutOnce.rows]).toEqual([whole.frames, whole.driver, whole.rows])
    }
  })

  test('without anybody who takes rows everything is the driver’s', () => {
    const stream = Buffer.concat([message('d', Buffer.from('row')), message('Z', Buffer.from('I'))])
    const outlet = new Outlet(false).read([stream])
    expect(outlet.driver).toEqual(stream)
  })
})

describe('lengths that lie', () => {
  const good = message('d', Buffer.from('good'))

  test.each([
    ['d', 0],
    ['d', 3],
    ['Z', 0],
    ['d', 0x4000_0000],
    ['d', 0xffff_ffff],
    ['E', 64 * 1024 * 1024 + 1],
    ['E', 0x7fff_ffff],
  ])('a message %s of %i bytes is refused, after what was whole', (tag, length) => {
    const bad = message(tag, Buffer.alloc(0), length)
    for (let at = 0; at <= bad.length; at++) {
      const outlet = new Outlet()
      const pieces = [
        good.subarray(0, 7),
        Buffer.concat([good.subarray(7), bad.subarray(0, at)]),
        bad.subarray(at),
      ].filter((piece) => piece.length > 0)
      expect(() => outlet.read(pieces)).toThrow(ProtocolViolation)
      expect(outlet.frames).toEqual(good)
      expect(outlet.rows).toEqual([4])
    }
  })

  test('a long row is passed on as it comes, without being kept', () => {
    const outlet = new Outlet()
    const counted = { bytes: 0, largest: 0 }
    outlet.filter.sink = {
      row: () => undefined,
      frames: (bytes) => {
        counted.bytes += bytes.length
        counted.largest = Math.max(counted.largest, bytes.length)
      },
    }
    const piece = Buffer.alloc(65_536)
    outlet.filter.push(message('d', Buffer.alloc(0), 0x3fff_ffff))
    for (let sent = 0; sent < 1000; sent++) outlet.filter.push(piece)
    expect(counted).toEqual({ bytes: 5 + 1000 * piece.length, largest: piece.length })
  })
})
