import { stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { Failure } from '../base/failure.ts'
import { type Account, runProgram } from './program.ts'

/**
 * The account that the server in `data` runs under: our own (undefined), unless we are root, which PostgreSQL refuses.
 * As root: the owner of the data when there are some; else the system's user `yardmaster` or `postgres`; else a system
 * user `yardmaster` is made (initdb wants an entry in the user database, so that a bare number does not do).
 *
 * Errors: `embedded_account_missing`.
 */
export async function serverAccount(data: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) {
    requireEntry()
    return undefined
  }
  const owner = await stat(data).catch(() => undefined)
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  return (await lookUp('yardmaster')) ?? (await lookUp('postgres')) ?? (await create('yardmaster'))
}

function requireEntry(): void {
  try {
    userInfo()
  } catch (cause) {
    throw new Failure('embedded_account_missing', {
      message: `PostgreSQL cannot run under the user id ${process.getuid?.()}: it has no entry in /etc/passwd.`,
      object: `user ${process.getuid?.()}`,
      remedy: 'Run as a user with an entry there, or give a server of your own with --control URL.',
      cause,
    })
  }
}

async function lookUp(name: string): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all([runProgram('id', ['-u', name]), runProgram('id', ['-g', name])])
  if (uid.exitCode !== 0 || gid.exitCode !== 0 || uid.output === '0') return undefined
  return { uid: Number(uid.output), gid: Number(gid.output) }
}

async function create(name: string): Promise<Account> {
  const options = ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent']
  const made = await runProgram('useradd', [...options, '--shell', '/usr/sbin/nologin', name])
  // Another process may be making it at this moment, and hold the lock of /etc/passwd.
  for (let attempt = 0; attempt < 20; attempt++) {
    const account = await lookUp(name)
    if (account !== undefined) return account
    await delay(100)
  }
  throw new Failure('embedded_account_missing', {
    message: `PostgreSQL refuses to run as root, and the system user ${name} could not be made: ${made.output}`,
    object: `user ${name}`,
    remedy: `Make a user named ${name} (useradd --system ${name}), or run as an ordinary user.`,
  })
}
