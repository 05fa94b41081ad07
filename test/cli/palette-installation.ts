import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inject } from 'vitest'
import type { TestDatabase } from '../support/databases.ts'

/** Columns of the queue that palette-director stands before. */
const jobColumns = `id integer, job_type varchar, progress integer, args text, notes text, updated_at timestamp, created_at timestamp,
  completed_at timestamp, started_at timestamp, job_name varchar, finish_code integer, priority integer, title varchar,
  created_on_worker varchar, processed_on_worker varchar, link text, lock_version integer, backgrounder_id varchar,
  serial_collection_id integer, site_id integer, subtitle varchar, language varchar, locale varchar, correlation_id integer`

/** A file that the database server can read, also where it runs under another user. */
export function serverFile(text: string): string {
  const folder = mkdtempSync(join(inject('runDirectory'), 'palette-'))
  chmodSync(folder, 0o755)
  const path = join(folder, 'workers.csv')
  writeFileSync(path, text)
  chmodSync(path, 0o644)
  return path
}

/** The repository of a Tableau Server with three sites, and palette-director before its queue, reading this file. */
export async function installPalette(workgroup: TestDatabase, file: string): Promise<void> {
  await installRepository(workgroup)
  await workgroup.query('create schema palette')
  await workgroup.query('grant all on schema palette to public')
  await workgroup.query('create extension file_fdw')
  await workgroup.query('create server bg_wb_config foreign data wrapper file_fdw')
  await workgroup.query("create type palette.worker_binding_enum as enum ('prefer', 'allow', 'forbid')")
  await workgroup.query(`create foreign table palette.worker_binding (site text, host inet, binding palette.worker_binding_enum)
    server bg_wb_config options (filename '${file}', format 'csv', header 'true')`)
  await workgroup.query('grant select on palette.worker_binding to public')
  await installFacade(workgroup)
}

async function installRepository(workgroup: TestDatabase): Promise<void> {
  for (const role of ['rails nologin', 'backgrounder login in role rails'])
    await workgroup.query(`do $$ begin create role ${role}; exception when duplicate_object then null; end $$`)
  await workgroup.query(
    'create table public._sites (id integer primary key, name varchar(255) not null, status varchar(255))',
  )
  await workgroup.query("insert into public._sites values (1, 'CEO'), (2, 'Marketing'), (3, 'QA')")
  await workgroup.query(`create table public.background_jobs (${jobColumns}, primary key (id))`)
  await workgroup.query('grant all on public._sites, public.background_jobs to rails')
}

async function installFacade(workgroup: TestDatabase): Promise<void> {
  await workgroup.query(`create view palette.worker_binding_id as
    select s.id as site_id, wb.host, wb.binding from palette.worker_binding wb join public._sites s on s.name = wb.site`)
  await workgroup.query(`create view palette.worker_binding_id_active_preferred as select * from palette.worker_binding_id
    where host in (select distinct client_addr from pg_catalog.pg_stat_activity where usename = 'backgrounder') and binding = 'prefer'`)
  await workgroup.query(`create view palette.background_jobs as
    select bj.* from public.background_jobs bj
    left join palette.worker_binding_id wb on bj.site_id = wb.site_id and inet_client_addr() = wb.host
    where case when wb.binding = 'forbid' then false when wb.binding = 'prefer' then true when bj.site_id is null then true
      else bj.site_id not in (select site_id from palette.worker_binding_id_active_preferred) end`)
  await workgroup.query('grant all on palette.background_jobs to public')
  await workgroup.query(`create rule "_INSERT" as on insert to palette.background_jobs
    do instead insert into public.background_jobs values ((new).*)`)
  await workgroup.query(`create rule "_DELETE" as on delete to palette.background_jobs
    do instead delete from public.background_jobs where id = old.id`)
  await workgroup.query('alter role backgrounder set search_path = palette, public')
}
