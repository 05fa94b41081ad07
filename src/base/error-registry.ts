/**
 * Every error code, with what it means and what to do. The reference page `docs/reference/errors.md` is made from this
 * list (`npm run docs`), and a test fails when a code is unused, unlisted or undocumented.
 */
interface ErrorEntry {
  meaning: string
  remedy: string
  /** 2 marks wrong usage. */
  exit?: 2
}

const entries = {
  // Usage
  wrong_usage: {
    meaning: 'The command line has an unknown command, flag or value.',
    remedy: 'See `yardmaster help`, or `--help` behind the command.',
    exit: 2,
  },
  confirmation_needed: {
    meaning: 'A destructive command was called where nobody can answer a question.',
    remedy: 'Run it on a terminal, or add --yes.',
    exit: 2,
  },
  name_invalid: {
    meaning: 'A name cannot be read as a PostgreSQL name, or is longer than 63 bytes.',
    remedy: 'Write schema.table, quoted as in SQL where needed: \'public."Odd.Name"\'.',
    exit: 2,
  },
  url_invalid: {
    meaning: 'A connection URL has a part that is missing, malformed or not allowed.',
    remedy: 'Write postgresql://user@host:port/database, with sslmode or sslrootcert where needed.',
    exit: 2,
  },
  // Connections
  source_unreachable: {
    meaning: 'No connection to the source database could be made, or it broke.',
    remedy: 'Check that the server runs and can be reached from this host, then try again.',
  },
  destination_unreachable: {
    meaning: 'No connection to the destination database could be made, or it broke.',
    remedy: 'Check that the server runs and can be reached from this host, then try again.',
  },
  control_unreachable: {
    meaning: 'No connection to the control database could be made, or it broke.',
    remedy: 'Check --control or YARDMASTER_CONTROL_URL and that the server runs.',
  },
  database_unreachable: {
    meaning: 'No connection to a registered database could be made, or it broke.',
    remedy: 'Check host, port and the server, then `yardmaster database test NAME`.',
  },
  authentication_failed: {
    meaning: 'The server refused the user or the password, or pg_hba.conf has no line for this connection.',
    remedy: 'Check user and password (`yardmaster database set NAME --url URL`) and the server’s pg_hba.conf.',
  },
  database_missing: {
    meaning: 'The server has no database of this name.',
    remedy: 'Correct the name at the end of the URL, or create the database.',
  },
  tls_failed: {
    meaning: 'The server’s certificate could not be verified, or it offers no TLS.',
    remedy:
      'Give the CA with sslrootcert=FILE; sslmode=disable switches encryption off (only in a network that you trust).',
  },
  password_unprotected: {
    meaning: 'The server asked for the password in clear text or as MD5 over a connection without TLS.',
    remedy: 'Use SCRAM on the server, or sslmode=verify-full.',
  },
  too_many_connections: {
    meaning: 'The server or the role has no free connection.',
    remedy: 'Raise max_connections or the role’s CONNECTION LIMIT, or close idle sessions.',
  },
  pooler_refused: {
    meaning: 'The connection runs through a pooler, on which session locks do not hold.',
    remedy: 'Give the address of the PostgreSQL server itself, not the pooler’s.',
  },
  version_unsupported: {
    meaning: 'The server is not PostgreSQL 14 to 18.',
    remedy: 'Use a server of a supported version.',
  },
  // Rights and resources
  permission_denied: {
    meaning: 'The role lacks a right that this work needs.',
    remedy: '`yardmaster database prepare NAME --for TYPE TABLE --dry-run` prints the grants.',
  },
  disk_full: {
    meaning: 'A server has no room left on its disk; what was begun was rolled back.',
    remedy: 'Free space on that server, then run the command again.',
  },
  lock_timeout: {
    meaning: 'A lock was held by somebody else for too long; nothing was changed.',
    remedy: 'Wait for, or end, the session that is named, then run the command again.',
  },
  cancelled: {
    meaning: 'The work was cancelled; what was begun was rolled back.',
    remedy: 'Run the command again when you want it done.',
  },
  sql_failed: {
    meaning:
      'PostgreSQL refused a statement for a reason that has no code of its own here; the SQLSTATE is in the message.',
    remedy: 'Read the message; https://www.postgresql.org/docs/current/errcodes-appendix.html explains the SQLSTATE.',
  },
  internal_error: {
    meaning: 'A defect of Yardmaster.',
    remedy: 'Run it again with --log-level debug and report what it prints.',
  },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof entries

export const errorRegistry: Readonly<Record<ErrorCode, ErrorEntry>> = entries
