import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { FakeTerminal } from './fake-terminal.ts'
import { Shop } from './shop.ts'

/** A shop whose destination has procedures to call, and which write down what they were called with. */
export class JobDesk extends Shop {
  readonly #folder = mkdtempSync(join(inject('runDirectory'), 'jobs-'))

  /** Adds a job; returns its number. */
  async addJob(...args: string[]): Promise<number> {
    return (await this.done('job', 'add', ...args, '--json')).json.job_id
  }

  async shown(job: number | string) {
    return (await this.done('job', 'show', String(job), '--json')).json
  }

  /** The error of a command that fails, with its exit code. */
  async refused(...args: string[]): Promise<{ exit: number; code: string; message: string; remedy: string }> {
    const { code: exit, json } = await this.run(...args, '--json')
    return { exit, ...json.error }
  }

  /** What was called, and with what: `note {"days": 1}`. */
  async calls(): Promise<string[]> {
    const rows = await this.destination.query<{ call: string }>(
      `select concat_ws(' ', what, config) as call from public.calls order by id`,
    )
    return rows.map(({ call }) => call)
  }

  file(text: string, name = 'job.sql'): string {
    const path = join(this.#folder, name)
    writeFileSync(path, text)
    return path
  }

  /** On a terminal that somebody sits at. */
  terminal(): FakeTerminal {
    return new FakeTerminal({ columns: 200, environment: this.environment })
  }
}

const procedures = `
  create table public.calls (id serial primary key, what text not null, config jsonb);
  create procedure public.note(job_id int, config jsonb) language plpgsql as
    $$ begin insert into public.calls (what, config) values ('note', config); end $$;
  create procedure public.fails(job_id int, config jsonb) language plpgsql as
    $$ begin raise exception 'the disk is full' using errcode = '53100'; end $$;
  create procedure public.sleeps(job_id int, config jsonb) language plpgsql as
    $$ begin perform pg_sleep(60); end $$;
  create procedure public.two_arguments(a text, b text) language plpgsql as $$ begin null; end $$;
  create function public.wants_days(config jsonb) returns void language plpgsql as
    $$ begin if config ->> 'days' is null then raise exception 'days is missing'; end if; end $$`

/** `crm` and `dwh`, both with the tag `prod`. */
export async function openJobDesk(label: string): Promise<JobDesk> {
  const [control, source, destination] = await Promise.all(
    ['control', 'source', 'destination'].map((side) => createDatabase(`${label} ${side}`)),
  )
  if (!control || !source || !destination) throw new Error('a database is missing')
  const desk = new JobDesk(control, source, destination)
  for (const database of [source, destination]) await database.query(procedures)
  await desk.done('database', 'add', 'crm', source.url, '--tag', 'prod')
  await desk.done('database', 'add', 'dwh', destination.url, '--tag', 'prod')
  expect(await desk.calls()).toEqual([])
  return desk
}
