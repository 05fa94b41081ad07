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
  protocol_violated: {
    meaning: 'The server sent what no PostgreSQL server sends; the connection was cut.',
    remedy: 'Check that host and port are a PostgreSQL server’s, and that nothing between changes what it sends.',
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
  // Control database
  control_newer: {
    meaning: 'The control schema was changed by a newer program in a way that this one cannot work with.',
    remedy: 'Use the newer version of Yardmaster.',
  },
  key_wrong: {
    meaning: 'A stored password cannot be read with the key that this process has.',
    remedy:
      'Start with the key it was stored with (YARDMASTER_KEY or the key file), or enter the password again: yardmaster database set NAME --url URL.',
  },
  database_unknown: {
    meaning: 'No database is registered under this name.',
    remedy: '`yardmaster database list` shows the registered ones; `yardmaster database add` registers one.',
  },
  database_exists: {
    meaning: 'A database is registered under this name already.',
    remedy: 'Choose another name, or change it with `yardmaster database set`.',
  },
  database_in_use: {
    meaning: 'A database cannot be removed while replications or jobs use it.',
    remedy: 'Remove what is named first: yardmaster replication remove DEST, yardmaster job delete JOB.',
  },
  reference_unreadable: {
    meaning: 'The environment variable or file that a database’s URL refers to cannot be read.',
    remedy:
      'Set it in the environment of this process, or correct the reference: yardmaster database set NAME --url URL.',
  },
  // Tables
  table_unknown: {
    meaning: 'The database has no table or view of this name.',
    remedy: 'Check schema, name and case; quote odd names as in SQL: \'public."Odd.Name"\'.',
  },
  filter_empty: {
    meaning: 'The column filter names no column.',
    remedy: 'Name the columns: --columns id,name; or leave the filter out to copy all.',
  },
  column_unknown: {
    meaning: 'The column filter names a column that the source does not have.',
    remedy: 'Correct --columns, or leave it out to copy all columns.',
  },
  type_missing: {
    meaning: 'The destination database lacks a type, domain or extension that the source’s columns use.',
    remedy: 'Run the statements that the message prints in the destination database.',
  },
  destination_column_missing: {
    meaning: 'The destination table lacks a column that the source has.',
    remedy: 'Add it with the statement that the message prints, or leave it out with --columns.',
  },
  column_type_mismatch: {
    meaning: 'A column’s type at the destination cannot hold every value of the source’s type as it is.',
    remedy:
      'Change the destination’s type with the statement that the message prints, or leave the column out with --columns.',
  },
  column_generated: {
    meaning: 'A column is generated at the destination and cannot take the source’s values.',
    remedy: 'Make it a plain column there, or leave it out with --columns.',
  },
  source_changed: {
    meaning: 'The source was given another structure while a copy of it began.',
    remedy: 'Run the command again.',
  },
  index_refused: {
    meaning: 'An index of the source cannot be made at the destination: something that it needs is not there.',
    remedy: 'Make what it needs at the destination, or copy without indexes: --no-index.',
  },
  condition_invalid: {
    meaning: 'The condition is not one SQL condition that can follow the source’s FROM.',
    remedy:
      'Write WHERE …, or , schema.other WHERE … for a join; no semicolon, no comment; schema-qualify every table and function of your own.',
  },
  // Replications
  replication_unknown: {
    meaning: 'No replication has this destination.',
    remedy:
      '`yardmaster replication list` shows them; write schema.table, or database:schema.table where several databases have it.',
  },
  replication_ambiguous: {
    meaning: 'Several databases have a replication with this destination table.',
    remedy: 'Write database:schema.table.',
  },
  replication_exists: {
    meaning: 'The destination table is fed by another replication already.',
    remedy: 'Choose another --dest, or remove the other one first.',
  },
  replication_broken_off: {
    meaning: 'Setting up the replication was broken off, or its removal was.',
    remedy: '`replication refresh DEST` goes on with the set-up; `replication remove DEST` takes everything away.',
  },
  destination_taken: {
    meaning: 'The destination table belongs to a replication of another control database.',
    remedy:
      'Remove it there. Where that control database is gone for good: `replication resync DEST --take-over` if this one has the replication; else run the statements that the message prints, and add it here.',
  },
  destination_exists: {
    meaning: 'Something stands at the destination already that this type of replication does not adopt.',
    remedy: 'Choose another --dest, or rename or drop what is there.',
  },
  destination_unsuitable: {
    meaning: 'The destination is of a kind that cannot take the copy.',
    remedy: 'Choose another --dest.',
  },
  dependent_objects: {
    meaning: 'Objects of yours depend on something that has to change or go.',
    remedy: 'Change or drop the objects that are named, then run the command again.',
  },
  sequence_unknown: {
    meaning: 'The destination has no sequence of this name.',
    remedy: 'Name destination sequences as schema.sequence; `\\ds` in psql lists them.',
  },
  run_unknown: {
    meaning: 'There is no run with this id.',
    remedy: '`yardmaster run list` shows the newest runs.',
  },
  fenced: {
    meaning: 'This run was given up by everybody else and another took its place; it changed nothing more.',
    remedy: 'Nothing: the newer run does the work. `yardmaster run list` shows it.',
  },
  option_not_for_type: {
    meaning: 'The option has no meaning for this type of replication.',
    remedy: 'Leave it out.',
    exit: 2,
  },
  // Incremental types
  control_column_unfit: {
    meaning:
      'The control column is not there, its type does not go with --by, or it has another type than when the position was stored.',
    remedy: 'Name a date or timestamp column with --by time, or a number column with --by serial.',
  },
  filter_incomplete: {
    meaning: 'The column filter leaves out the control column or a column of the key.',
    remedy: 'Add the columns that are named to --columns.',
  },
  key_missing: {
    meaning:
      'Nothing identifies a row of the source: it has no primary key, and no unique index that could stand for one.',
    remedy: 'Name the columns that identify a row: --key a,b.',
  },
  key_not_unique: {
    meaning: 'The source sent a key twice in one batch, or a NULL in it.',
    remedy: 'Name columns that identify a row, and are never NULL, with --key; or correct the rows in the source.',
  },
  key_index_missing: {
    meaning: 'The destination table has no unique index on exactly the columns of the key.',
    remedy: 'Make it with the statement that the message prints.',
  },
  range_invalid: {
    meaning: 'A range of control values is empty, cannot be read, or begins behind everything that was copied.',
    remedy: 'Write --start and --end as values of the control column; the start is part of the range, the end is not.',
    exit: 2,
  },
  clock_shift: {
    meaning:
      'Clocks of the control column’s zone shift today, and this is the time at which nothing is copied for that reason.',
    remedy: 'Wait until the window is over, or change it: dst-window.',
  },
  destination_replaced: {
    meaning: 'The destination table is another one than that which the position belongs to, or it is gone.',
    remedy: 'Copy it anew: yardmaster replication resync DEST.',
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
  // Embedded PostgreSQL
  embedded_unsupported: {
    meaning: 'The embedded PostgreSQL has no binaries for this platform, or they do not run here.',
    remedy: 'Reinstall with `npm install` (not with --omit=optional), or give a server of your own with --control URL.',
  },
  embedded_account_missing: {
    meaning: 'There is no user of the operating system that the embedded PostgreSQL could run under.',
    remedy: 'Run as an ordinary user, or make a system user: `useradd --system yardmaster`.',
  },
  embedded_directory_unusable: {
    meaning: 'The data directory cannot be made, entered, read or written.',
    remedy: 'Give a directory of your own with --data-dir, or run as the user who owns this one.',
  },
  embedded_directory_foreign: {
    meaning: 'The data directory holds something that Yardmaster did not make, or another program’s server uses it.',
    remedy: 'Give another directory with --data-dir.',
  },
  embedded_version_mismatch: {
    meaning: 'The data were written by another major version of PostgreSQL than the one that is installed.',
    remedy:
      'Keep using the package that brought the older version, or dump with that version’s pg_dump and load it anew.',
  },
  embedded_port_in_use: {
    meaning: 'The port that was asked for is taken by another program.',
    remedy: 'Give another port, or none: then a free one is found.',
  },
  embedded_start_failed: {
    meaning: 'The embedded PostgreSQL did not come up; the message has the last lines of its log.',
    remedy: 'Read server.log in the data directory.',
  },
  embedded_busy: {
    meaning: 'Another process holds the embedded PostgreSQL’s start and stop for too long.',
    remedy: 'Look what the process that is named does; end it if it hangs, then run the command again.',
  },
  // Placement
  bindings_invalid: {
    meaning:
      'A file of bindings cannot be read, or has lines that cannot be used; all of them are named, and nothing was applied.',
    remedy:
      'Correct the lines that are named, then apply the file again. It is UTF-8 with the header site,host,binding.',
  },
  site_stranded: {
    meaning: 'A change of bindings would leave a site without any host that may run its work.',
    remedy:
      'Leave out a row that forbids the site, make a host known that may run it (host set), or add --force to let its work wait.',
  },
  host_forbidden: {
    meaning: 'A binding forbids this host to run the work of this site.',
    remedy: 'Hand it to a worker on another host with --queue, or change the binding.',
  },
  host_unknown: {
    meaning: 'Nothing is known of a host of this name: no worker, no binding, no setting.',
    remedy: 'See `yardmaster host list`; `yardmaster host set HOST` makes one known before its workers start.',
  },
  host_refused: {
    meaning: 'What was said about a host contradicts what is known of another one.',
    remedy: 'See `yardmaster host list`.',
  },
  limit_unknown: {
    meaning: 'There is no limit with this key.',
    remedy: 'See `yardmaster limit list`.',
  },
  nothing_to_undo: {
    meaning: 'No change of bindings is left that could be undone.',
    remedy: 'See `yardmaster binding history`.',
  },
  job_unknown: {
    meaning: 'There is no job with this number or name.',
    remedy: 'See `yardmaster job list`.',
  },
  job_ambiguous: {
    meaning: 'Several jobs go by this name.',
    remedy: 'Name it by its number; `yardmaster job list` shows them.',
  },
  job_refused: {
    meaning: 'What was asked for does not go with what the job is, or how it stands now.',
    remedy: 'See `yardmaster job show JOB`.',
  },
  dependency_cycle: {
    meaning: 'Jobs would start after each other in a circle, so that none of them ever could.',
    remedy: 'Leave one of the dependencies out that the message shows.',
  },
  // Alerts
  alert_unknown: {
    meaning: 'There is no alert with this number.',
    remedy: 'See `yardmaster alert list`.',
  },
  alert_over: {
    meaning: 'What an alert was about is over; nothing can be said about it any more.',
    remedy: 'See `yardmaster alert list` for those that are open.',
  },
  webhook_unknown: {
    meaning: 'There is no webhook with this number.',
    remedy: 'See `yardmaster alert webhook list`.',
  },
  webhook_refused: {
    meaning: 'A webhook may not have this URL or this secret.',
    remedy: 'Write https://host/path; an address of this host or a private network needs --allow-private.',
    exit: 2,
  },
  webhook_failed: {
    meaning: 'A webhook gave no answer. It is tried again, ever later, for a day.',
    remedy: 'Look whether its receiver runs and can be reached from the workers; see `yardmaster alert webhook list`.',
  },
  // hdbpp-postprocessing
  hdbpp_file_invalid: {
    meaning:
      'The file of `yardmaster postprocess` cannot be read, or has faults; all of them are named, and nothing was run.',
    remedy: 'Correct what is named; `yardmaster postprocess -c FILE --validate` only checks the file.',
  },
  hdbpp_tables_missing: {
    meaning: 'A database has no tables postprocessing_jobs and postprocessing_jobs_stats that its user sees.',
    remedy: '`yardmaster postprocess -c FILE --init` makes them; or name their schema in the user’s search_path.',
  },
  hdbpp_busy: {
    meaning: 'Another process runs the postprocessing jobs of this database; two at once would run each job twice.',
    remedy: 'Wait until it has ended; where jobs take longer than from one start to the next, start it less often.',
  },
  // HTTP
  listen_failed: {
    meaning: 'The address that the page should have is taken, or not one of this machine.',
    remedy: 'Give another one with --listen ADDR:PORT, or leave it out: then a free port is found.',
  },
  // Schedules
  interval_invalid: {
    meaning: 'An interval cannot be read, or no schedule can go by it.',
    remedy: "Write it as PostgreSQL does: '10 minutes', '1 month', '1 day 2 hours', '00:01:30'.",
    exit: 2,
  },
  cron_invalid: {
    meaning: 'A cron expression cannot be read; the message names the field.',
    remedy: "Write minute, hour, day of the month, month and day of the week, as in '30 2 * * MON-FRI'.",
    exit: 2,
  },
  cron_never_comes: {
    meaning: 'A cron expression can be read, but names a day that no year has, such as 30 February.',
    remedy: 'Correct the day of the month or the month.',
    exit: 2,
  },
  timezone_unknown: {
    meaning: 'There is no time zone of that name.',
    remedy: 'Give a name of the time zone database, such as Europe/London or UTC.',
    exit: 2,
  },
  // What a job does in its database
  action_missing: {
    meaning:
      'The database has no function or procedure of the name that a job calls, or none that takes its arguments.',
    remedy: 'Make it there, or correct the name; an action takes (integer, jsonb), a configuration check (jsonb).',
  },
  config_refused: {
    meaning: 'The configuration check of a job refuses its configuration, or cannot be such a check.',
    remedy: 'Correct the configuration as the check’s message says.',
  },
  job_failed: {
    meaning: 'The procedure, function or statements of a job ended with an error; the SQLSTATE is in the message.',
    remedy: 'Read the message; it is the database’s own.',
  },
  job_timeout: {
    meaning: 'A job ran longer than its max_runtime, and was ended in its database.',
    remedy: 'Look at what held it up (run show), or allow it more time.',
  },
  payload_refused: {
    meaning: 'The configuration of a job, with the parameters of the run, does not fit the schema of its task.',
    remedy: 'Correct what the message points to: the configuration of the job, or the parameters of the run.',
  },
  task_lingers: {
    meaning: 'A task did not return when its worker stopped, so its run could not be given back to the queue.',
    remedy: 'Have the task heed its abort signal. The run is tried again as after any other failure.',
  },
  task_refused: {
    meaning: 'A task cannot be registered under this name.',
    remedy: 'Give each task a name of its own.',
  },
  job_locked: {
    meaning: 'Another session in the job’s database holds the job’s lock, so this attempt did not begin.',
    remedy: 'Wait for the session that is named, or end it.',
  },
  jobmon_installed: {
    meaning: 'The database has pg_jobmon itself, or a schema of that name that is somebody else’s.',
    remedy: 'Leave it as it is, or remove it there first; the functions would stand in its place.',
  },
  job_outcome_unknown: {
    meaning: 'The connection broke while a job ran, and nothing in its database says whether it took effect.',
    remedy:
      'Look in the database. Where it must be once: write it as a function, or as a procedure without COMMIT, in a database that has the schema yardmaster.',
  },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof entries

export const errorRegistry: Readonly<Record<ErrorCode, ErrorEntry>> = entries
