import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** PEM files of one certificate that is its own CA. */
export interface Certificate {
  readonly file: string
  readonly keyFile: string
}

/** True where there is an openssl to make certificates with; Node can only read them. */
export function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Makes a self-signed certificate for these names (`DNS:localhost`), valid for `days` from now; below zero: expired. */
export function makeCertificate(directory: string, label: string, names: string, days = 2): Certificate {
  const [file, keyFile] = [join(directory, `${label}.crt`), join(directory, `${label}.key`)]
  const [request, extensions] = [join(directory, `${label}.csr`), join(directory, `${label}.ext`)]
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile]
  writeFileSync(extensions, `subjectAltName=${names}\nbasicConstraints=critical,CA:TRUE\n`)
  openssl('req', '-new', ...key, '-out', request, '-subj', `/CN=${label}`)
  openssl(
    'x509',
    '-req',
    '-in',
    request,
    '-signkey',
    keyFile,
    '-days',
    String(days),
    '-extfile',
    extensions,
    '-out',
    file,
  )
  return { file, keyFile }
}
