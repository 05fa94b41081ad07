import { join } from 'node:path'

/** Name of the control database on the embedded server. */
export const embeddedControlDatabase = 'yardmaster'

/**
 * Where the embedded server lives when nobody says otherwise: `/var/lib/yardmaster` as root, whose home the server's user
 * cannot enter; else `yardmaster` in the XDG data directory. The entry point hands in its environment.
 */
export function defaultDirectory(
  environment: { XDG_DATA_HOME?: string | undefined },
  uid: number,
  home: string,
): string {
  if (uid === 0) return '/var/lib/yardmaster'
  // The XDG specification: a relative path is invalid and to be ignored.
  const base = environment.XDG_DATA_HOME
  return join(base?.startsWith('/') ? base : join(home, '.local/share'), 'yardmaster')
}
