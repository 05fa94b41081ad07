import { spawn } from 'node:child_process'

/** An account of the operating system under which a program runs; left out, it runs under our own. */
export interface Account {
  uid: number
  gid: number
}

/**
 * The whole environment of PostgreSQL's programs: nothing of ours (keys, `PG*` variables) reaches the server, and
 * messages come in English, as the C library has them.
 */
export const programEnvironment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

/** Runs a program to its end. `exitCode` is null when it could not be started or a signal ended it; never rejects. */
export function runProgram(
  file: string,
  args: string[],
  account?: Account,
): Promise<{ exitCode: number | null; output: string }> {
  return new Promise((resolve) => {
    let output = ''
    const child = spawn(file, args, {
      ...account,
      cwd: '/',
      env: programEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const gather = (chunk: Buffer) => {
      output += chunk.toString('utf8')
    }
    child.stdout.on('data', gather)
    child.stderr.on('data', gather)
    child.once('error', (error) => resolve({ exitCode: null, output: error.message }))
    child.once('close', (exitCode) => resolve({ exitCode, output: output.trim() }))
  })
}
