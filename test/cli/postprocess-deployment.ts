import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inject } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'

/** The two tables as their schema has them, and a table in which procedures write down that they were called. */
export async function installHdbpp(database: TestDatabase): Promise<void> {
  await database.query(`create table postprocessing_jobs (job_id bigint generated always as identity primary key,
    application_name text, proc_name text, config jsonb)`)
  await database.query(`create table postprocessing_jobs_stats (job_id bigint primary key references postprocessing_jobs,
    last_run_started_at timestamptz, last_successful_finish timestamptz, last_run_status text, job_status text,
    last_run_duration interval, total_runs bigint, total_successes bigint, total_failures bigint)`)
  await database.query(`create table calls (n int generated always as identity, job_id bigint, config jsonb,
    at timestamptz default clock_timestamp(), pid int default pg_backend_pid(), others bigint)`)
  await procedure(database, 'works', 'insert into public.calls (job_id, config) values (id, settings);')
  await procedure(database, 'fails', `insert into public.calls (job_id) values (id); raise exception 'as it should';`)
}

/** `name(id bigint, settings jsonb)`, unless it is called otherwise. */
export async function procedure(
  database: TestDatabase,
  name: string,
  body: string,
  parameters = 'id bigint, settings jsonb',
): Promise<void> {
  await database.query(
    `create or replace procedure ${name}(${parameters}) language plpgsql as $p$ begin ${body} end $p$`,
  )
}

/** Returns the job's id. */
export async function addJob(
  database: TestDatabase,
  name: string | null,
  config: object | null = {},
  application = 'HDB++ postprocessing',
): Promise<string> {
  const [row] = await database.query(
    'insert into postprocessing_jobs (application_name, proc_name, config) values ($1, $2, $3) returning job_id',
    [application, name, config],
  )
  return row.job_id
}

/** Rows of the stats by job; moments as whether there is one. */
export function stats(database: TestDatabase) {
  return database.query(`select job_id, last_run_started_at is not null as started, last_successful_finish is not null as finished,
    last_run_status, job_status, last_run_duration > '0' as took, total_runs, total_successes, total_failures
    from postprocessing_jobs_stats order by job_id`)
}

/** What the row of a job looks like that ran so often. */
export function counted(id: string, ok: boolean, [runs, successes]: [number, number]) {
  return {
    job_id: id,
    started: true,
    finished: successes > 0,
    last_run_status: ok ? 'Job run ok' : 'Job run in error',
    job_status: ok ? 'CALL' : '',
    took: true,
    total_runs: String(runs),
    total_successes: String(successes),
    total_failures: String(runs - successes),
  }
}

/** A file with a deployment for each of these URLs, by name. */
export function deploymentFile(urls: Readonly<Record<string, string>>): string {
  const path = join(mkdtempSync(join(inject('runDirectory'), 'postprocess-')), 'hdbpp.conf')
  const lines = Object.entries(urls).map(([name, text]) => {
    const url = new URL(text)
    const password = url.password === '' ? '' : `, password: '${decodeURIComponent(url.password)}'`
    return `${name}:
  connection: {user: '${decodeURIComponent(url.username)}'${password}, host: ${url.hostname}, port: ${url.port}, database: ${url.pathname.slice(1)}}`
  })
  writeFileSync(path, `${lines.join('\n')}\n`)
  return path
}

/** Runs it in a pipe. Whoever asks for a control database fails. */
export async function postprocess(file: string, ...flags: string[]) {
  const terminal = new FakeTerminal({ terminal: false, environment: { YARDMASTER_CONTROL_URL: 'unused' } })
  const code = await terminal.run('postprocess', '-c', file, ...flags)
  return { code, out: terminal.out, err: terminal.err }
}
