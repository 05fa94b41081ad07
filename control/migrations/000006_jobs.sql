-- breaking
-- Jobs of every kind: procedures, statements and tasks beside replications; what each remembers by database; dependencies.

DROP VIEW IF EXISTS yardmaster.watched_jobs;
DROP VIEW IF EXISTS yardmaster.claimable_runs;
DROP VIEW IF EXISTS yardmaster.replications;
DROP VIEW IF EXISTS yardmaster.runs;
DROP VIEW IF EXISTS yardmaster.host_room;
DROP VIEW IF EXISTS yardmaster.limits;
DROP VIEW IF EXISTS yardmaster.run_limits;
DROP FUNCTION IF EXISTS yardmaster.undecided_jobs(integer);
DROP FUNCTION IF EXISTS yardmaster.set_next_starts(integer[], text[], timestamptz[], float8[]);
DROP FUNCTION IF EXISTS yardmaster.claim_runs(bigint, text[], integer, integer[]);
DROP FUNCTION IF EXISTS yardmaster.held_runs(bigint);
DROP FUNCTION IF EXISTS yardmaster.queue_due_slots(text[], integer[]);
DROP FUNCTION IF EXISTS yardmaster.oldest_waiting(text, integer, text[], text[]);
DROP FUNCTION IF EXISTS yardmaster.waiting_of_jobs(text, integer[], text[], text[]);
DROP FUNCTION IF EXISTS yardmaster.open_lanes(text, text[], text[]);
DROP FUNCTION IF EXISTS yardmaster.seconds_until_due(text[]);
DROP FUNCTION IF EXISTS yardmaster.due_jobs(text);
DROP FUNCTION IF EXISTS yardmaster.finish_run(uuid, text, text, text, bigint, bigint, float8, text, interval);
DROP FUNCTION IF EXISTS yardmaster.queue_run(integer, text, jsonb);
DROP FUNCTION IF EXISTS yardmaster.cancel_run(bigint);
DROP FUNCTION IF EXISTS yardmaster.set_lane(integer);

ALTER TABLE yardmaster.job
  DROP CONSTRAINT job_kind_check,
  ADD CONSTRAINT job_kind_check CHECK (kind IN ('replication', 'procedure', 'sql', 'task')),
  DROP CONSTRAINT job_status_check,
  -- unverified: nobody has looked yet whether its database has what it calls.
  ADD CONSTRAINT job_status_check CHECK (status IN ('setting_up', 'unverified', 'active', 'paused', 'broken', 'removing')),
  ADD COLUMN name text,
  -- The role that may alter, run and delete it, and its members.
  ADD COLUMN owner text,
  ADD COLUMN fixed_schedule boolean NOT NULL DEFAULT true,
  ADD COLUMN initial_start timestamptz,
  -- When it was made or its schedule was changed: slots up to then were never promised.
  ADD COLUMN schedule_since timestamptz NOT NULL DEFAULT clock_timestamp(),
  ADD COLUMN max_runtime interval NOT NULL DEFAULT interval '0' CHECK (max_runtime >= interval '0'),
  -- Failures in a row after which it is paused; -1 for none.
  ADD COLUMN max_retries integer NOT NULL DEFAULT -1 CHECK (max_retries >= -1),
  ADD COLUMN retry_period interval NOT NULL DEFAULT interval '5 minutes' CHECK (retry_period >= interval '0'),
  -- now, never, or an interval; NULL: now for a replication, else 5 minutes.
  ADD COLUMN retry_on_crash text,
  ADD COLUMN overlap text NOT NULL DEFAULT 'skip' CHECK (overlap IN ('skip', 'buffer', 'allow', 'cancel')),
  -- Slots that were missed are made up for within it, each of them; NULL: the first of them alone.
  ADD COLUMN catch_up interval CHECK (catch_up >= interval '0'),
  ADD COLUMN jitter interval NOT NULL DEFAULT interval '0' CHECK (jitter >= interval '0'),
  ADD COLUMN priority integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -1000 AND 1000);
UPDATE yardmaster.job SET owner = created_by, schedule_since = schedule_origin;
ALTER TABLE yardmaster.job ALTER COLUMN owner SET NOT NULL;

-- What a job of another kind than replication does, and where.
CREATE TABLE yardmaster.job_action (
  job_id integer PRIMARY KEY REFERENCES yardmaster.job ON DELETE CASCADE,
  -- NULL: found by its database's search path, and written here once it was.
  proc_schema text,
  proc_name text,
  check_schema text,
  check_name text,
  statements text[],
  task text,
  config jsonb,
  -- Of these at most one. A task may have neither.
  database_id bigint REFERENCES yardmaster.managed_database,
  tag text,
  -- What it calls was found in its databases, and its check had nothing against its config.
  verified boolean NOT NULL DEFAULT false,
  CHECK (num_nonnulls(proc_name, statements, task) = 1),
  CHECK (num_nonnulls(database_id, tag) = 1 OR task IS NOT NULL AND num_nonnulls(database_id, tag) = 0)
);
CREATE INDEX job_action_database ON yardmaster.job_action (database_id);
CREATE INDEX job_action_tag ON yardmaster.job_action (tag) WHERE tag IS NOT NULL;

-- What a job remembers of its runs in one database; 0 where it has none. A job with a tag goes on in each database by itself.
CREATE TABLE yardmaster.job_state (
  job_id integer NOT NULL REFERENCES yardmaster.job ON DELETE CASCADE,
  database_id bigint NOT NULL,
  -- The job as people know it there: `crm:nightly [1001]`.
  object text,
  -- The job runs there; else only its past is kept.
  in_scope boolean NOT NULL DEFAULT true,
  -- By the rule of max_retries, where the job goes on in other databases.
  paused_at timestamptz,
  -- Runs start by themselves: in scope, not paused, and the job is active and has a schedule.
  scheduled boolean NOT NULL DEFAULT false,
  -- NULL: not decided yet (a worker does it within a second), while a run of it is open, or without a schedule.
  next_start timestamptz,
  -- What the next start is for: it may be later, by jitter or as a retry. NULL: somebody set the start, it is none of the schedule's.
  next_slot timestamptz,
  -- From that slot to the one after it.
  period interval,
  -- The last slot that was accounted for, as a run or as left out.
  last_slot timestamptz,
  last_start timestamptz,
  last_finish timestamptz,
  last_status text,
  last_reason text,
  last_duration interval,
  last_success timestamptz,
  -- CRITICAL runs in a row, and lost workers.
  failures integer NOT NULL DEFAULT 0,
  -- The last failure was a lost worker.
  crashed boolean NOT NULL DEFAULT false,
  -- Runs in a row that ended as WARNING or worse.
  troubles integer NOT NULL DEFAULT 0,
  total_runs bigint NOT NULL DEFAULT 0,
  total_successes bigint NOT NULL DEFAULT 0,
  total_failures bigint NOT NULL DEFAULT 0,
  last_run bigint,
  last_good_run bigint,
  lane integer REFERENCES yardmaster.lane,
  PRIMARY KEY (job_id, database_id)
);
CREATE INDEX job_state_due ON yardmaster.job_state (next_start, job_id, database_id) WHERE scheduled AND next_start IS NOT NULL;
CREATE INDEX job_state_undecided ON yardmaster.job_state (job_id, database_id) WHERE scheduled AND next_start IS NULL;
INSERT INTO yardmaster.job_state (job_id, database_id, scheduled, next_start, next_slot, period, last_slot, last_finish, failures, troubles, lane)
SELECT j.id, r.destination_database, j.status = 'active' AND (j.schedule_interval IS NOT NULL OR j.cron IS NOT NULL), j.next_start, j.next_start,
  j.period, j.last_slot, j.last_finish, j.failures, j.failures, j.lane
FROM yardmaster.job j JOIN yardmaster.replication r ON r.job_id = j.id;
UPDATE yardmaster.job_state s SET total_runs = t.runs, total_successes = t.good, total_failures = t.runs - t.good, last_run = t.last_run,
  last_good_run = t.last_good, last_success = t.last_success
FROM (SELECT r.job_id, r.database_id, count(*) AS runs, count(*) FILTER (WHERE r.status <> 'CRITICAL') AS good, max(r.id) AS last_run,
    max(r.id) FILTER (WHERE r.status <> 'CRITICAL') AS last_good, max(r.finished_at) FILTER (WHERE r.status <> 'CRITICAL') AS last_success
  FROM yardmaster.run r WHERE r.status IN ('OK', 'WARNING', 'CRITICAL') GROUP BY 1, 2) t
WHERE t.job_id = s.job_id AND t.database_id = s.database_id;
UPDATE yardmaster.job_state s SET last_start = r.started_at, last_status = r.status, last_reason = r.reason, last_duration = r.finished_at - r.started_at
FROM yardmaster.run r WHERE r.id = s.last_run;
DROP INDEX yardmaster.job_due;
DROP INDEX yardmaster.job_undecided;
ALTER TABLE yardmaster.job DROP COLUMN next_start, DROP COLUMN period, DROP COLUMN last_slot, DROP COLUMN last_finish, DROP COLUMN failures, DROP COLUMN lane;

-- Slots that no run was made for, and why.
CREATE TABLE yardmaster.skipped_slots (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id integer NOT NULL REFERENCES yardmaster.job ON DELETE CASCADE,
  database_id bigint NOT NULL,
  first_slot timestamptz NOT NULL,
  last_slot timestamptz NOT NULL,
  slots bigint NOT NULL,
  -- overlap: the run before was under way; missed: nobody worked, or not within the catch-up window; retry: a failure was waited out.
  reason text NOT NULL CHECK (reason IN ('overlap', 'missed', 'retry')),
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX skipped_slots_job ON yardmaster.skipped_slots (job_id, last_slot DESC);

-- A job starts after others.
CREATE TABLE yardmaster.job_dependency (
  job_id integer NOT NULL REFERENCES yardmaster.job ON DELETE CASCADE,
  after_job_id integer NOT NULL REFERENCES yardmaster.job ON DELETE CASCADE,
  needs text NOT NULL CHECK (needs IN ('succeeded', 'done')),
  PRIMARY KEY (job_id, after_job_id)
);
CREATE INDEX job_dependency_after ON yardmaster.job_dependency (after_job_id);
-- The run of a predecessor that the last run of a job took into account.
CREATE TABLE yardmaster.dependency_seen (
  job_id integer NOT NULL,
  database_id bigint NOT NULL,
  after_job_id integer NOT NULL,
  after_database_id bigint NOT NULL,
  run_id bigint NOT NULL,
  PRIMARY KEY (job_id, database_id, after_job_id, after_database_id),
  FOREIGN KEY (job_id, after_job_id) REFERENCES yardmaster.job_dependency ON DELETE CASCADE
);

ALTER TABLE yardmaster.run
  DROP CONSTRAINT run_operation_check,
  ADD CONSTRAINT run_operation_check CHECK (operation IN ('setup', 'refresh', 'remove', 'call')),
  -- When it may start: the slot, or later by jitter or behind a lost worker.
  ADD COLUMN due_at timestamptz,
  -- Others of its job may run beside it.
  ADD COLUMN shares boolean NOT NULL DEFAULT false,
  ADD COLUMN sqlstate text,
  -- Of a job's action, when it began.
  ADD COLUMN config jsonb;
UPDATE yardmaster.run SET due_at = slot;
ALTER TABLE yardmaster.run ALTER COLUMN due_at SET NOT NULL;
DROP INDEX yardmaster.run_one_at_once;
CREATE UNIQUE INDEX run_one_at_once ON yardmaster.run (job_id, database_id) WHERE status = 'RUNNING' AND queued AND NOT shares;
DROP INDEX yardmaster.run_waiting_of_lane;
CREATE INDEX run_waiting_of_lane ON yardmaster.run (lane, due_at, id) WHERE status = 'WAITING' AND queued;
DROP INDEX yardmaster.run_waiting;
CREATE INDEX run_waiting ON yardmaster.run (due_at, id) WHERE status = 'WAITING';

ALTER TABLE yardmaster.attempt
  -- The session that works for it in the target database.
  ADD COLUMN target_pid integer,
  ADD COLUMN target_start timestamptz,
  -- Its worker was given up, and nobody has seen yet that its session in the target is gone.
  ADD COLUMN abandoned boolean NOT NULL DEFAULT false;
CREATE INDEX attempt_abandoned ON yardmaster.attempt (run_id) WHERE abandoned AND target_pid IS NOT NULL;

ALTER TABLE yardmaster.lane
  DROP CONSTRAINT lane_keys_key,
  ADD COLUMN priority integer NOT NULL DEFAULT 0,
  -- Only workers that know the task take its runs.
  ADD COLUMN task text;
CREATE UNIQUE INDEX lane_one ON yardmaster.lane (keys, priority, coalesce(task, ''));

-- Who may make jobs in which database, beside the owner of this schema.
CREATE TABLE yardmaster.database_right (
  database_id bigint NOT NULL REFERENCES yardmaster.managed_database ON DELETE CASCADE,
  role text NOT NULL,
  -- Also jobs that are statements of their own.
  may_author boolean NOT NULL DEFAULT false,
  PRIMARY KEY (database_id, role)
);

-- What alter_job answers: TimescaleDB's columns.
CREATE TYPE yardmaster.altered_job AS (job_id integer, schedule_interval interval, max_runtime interval, max_retries integer, retry_period interval,
  scheduled boolean, config jsonb, next_start timestamptz, check_config text, fixed_schedule boolean, initial_start timestamptz, timezone text,
  application_name name);
