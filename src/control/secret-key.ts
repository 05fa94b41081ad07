import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { Failure } from '../base/failure.ts'

const algorithm = 'aes-256-gcm'
const keyBytes = 32
const nonceBytes = 12
const tagBytes = 16

/** The key that stored passwords are encrypted with (AES-256-GCM). It is never in the control database. */
export class SecretKey {
  readonly #key: Buffer
  /** Where it came from, for `doctor`. */
  readonly origin: string

  constructor(key: Buffer, origin: string) {
    this.#key = key
    this.origin = origin
  }

  /** Names the key without telling it. */
  get id(): string {
    return createHash('sha256').update('yardmaster key id').update(this.#key).digest('hex').slice(0, 12)
  }

  /** `owner` says what the text belongs to (its row, its URL): the ciphertext opens for nothing else. */
  encrypt(plain: string, owner: string): Buffer {
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv(algorithm, this.#key, nonce, { authTagLength: tagBytes }).setAAD(Buffer.from(owner))
    const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
    return Buffer.concat([nonce, cipher.getAuthTag(), body])
  }

  /** Throws `key_wrong` when the ciphertext was made with another key, for another owner, or was changed. */
  decrypt(ciphertext: Buffer, owner: string, keyId: string, object: string): string {
    if (keyId !== this.id) {
      throw new Failure('key_wrong', {
        message: `The password of '${object}' was stored with key ${keyId}; this process has key ${this.id} (from ${this.origin}).`,
        object,
      })
    }
    try {
      const decipher = createDecipheriv(algorithm, this.#key, ciphertext.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      })
      decipher.setAAD(Buffer.from(owner)).setAuthTag(ciphertext.subarray(nonceBytes, nonceBytes + tagBytes))
      return Buffer.concat([decipher.update(ciphertext.subarray(nonceBytes + tagBytes)), decipher.final()]).toString(
        'utf8',
      )
    } catch (error) {
      throw new Failure('key_wrong', {
        message: `The stored password of '${object}' does not open with key ${this.id}: it, or the URL that it belongs to, was changed by hand.`,
        object,
        remedy: `Enter it again: yardmaster database set ${object} --url URL`,
        cause: error,
      })
    }
  }
}

/**
 * The key from `YARDMASTER_KEY` (its text, 32 bytes as 64 hexadecimal digits or base64), else from a key file, which is
 * made with mode 0600 when it is absent. Throws `key_wrong`.
 */
export function loadSecretKey(options: { text?: string | undefined; file: string }): SecretKey {
  if (options.text !== undefined && options.text !== '')
    return new SecretKey(readKey(options.text, 'YARDMASTER_KEY'), 'YARDMASTER_KEY')
  try {
    if (!existsSync(options.file)) makeKeyFile(options.file)
    return new SecretKey(readKey(readFileSync(options.file, 'utf8').trim(), options.file), options.file)
  } catch (error) {
    if (error instanceof Failure) throw error
    throw new Failure('key_wrong', {
      message: `The key file ${options.file} cannot be read or made: ${(error as Error).message}`,
      object: options.file,
      remedy: 'Run as the user who owns it, or set YARDMASTER_KEY.',
      cause: error,
    })
  }
}

function makeKeyFile(file: string): void {
  mkdirSync(dirname(file), { recursive: true })
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, `${randomBytes(keyBytes).toString('base64')}\n`, { mode: 0o600, flush: true })
  chmodSync(draft, 0o600)
  try {
    // A link, unlike a rename, fails when another process was first: its key is the one.
    linkSync(draft, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(draft, { force: true })
  }
}

function readKey(text: string, origin: string): Buffer {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, 'hex')
  // Node's base64 skips what it does not know; a key that was cut or mistyped must not become another key.
  if (/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return Buffer.from(text, 'base64')
  throw new Failure('key_wrong', {
    message: `${origin} does not hold a key of ${keyBytes} bytes (64 hexadecimal digits, or base64).`,
    object: origin,
    remedy: 'Make one with: openssl rand -base64 32',
  })
}
