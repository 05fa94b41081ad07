-- breaking
-- Incremental types, schedules, and workers that take runs from here.

DROP VIEW IF EXISTS yardmaster.replications;
DROP VIEW IF EXISTS yardmaster.steps;
DROP VIEW IF EXISTS yardmaster.runs;
DROP FUNCTION IF EXISTS yardmaster.add_replication(text, text, text, text, text, text, text, text[], text, boolean, boolean, text[], text[],
  boolean, interval, text);
DROP FUNCTION IF EXISTS yardmaster.begin_run(integer, bigint, text, text, text, text, text);
DROP FUNCTION IF EXISTS yardmaster.resume_attempt(uuid);
DROP FUNCTION IF EXISTS yardmaster.finish_run(uuid, text, text, text, bigint, bigint);
DROP FUNCTION IF EXISTS yardmaster.mark_lost_attempts();

ALTER TABLE yardmaster.job
  DROP CONSTRAINT job_status_check,
  ADD CONSTRAINT job_status_check CHECK (status IN ('setting_up', 'active', 'paused', 'broken', 'removing')),
  ADD COLUMN paused_at timestamptz,
  ADD COLUMN paused_by text,
  ADD COLUMN pause_note text,
  ADD COLUMN schedule_interval interval CHECK (schedule_interval > interval '0' AND isfinite(schedule_interval)),
  ADD COLUMN cron text,
  ADD COLUMN timezone text NOT NULL DEFAULT 'UTC',
  -- Slots of an interval are counted from here: when the job was made, or when its schedule was changed.
  ADD COLUMN schedule_origin timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- NULL: not decided yet (a worker does it within a second), while a run of it is open, or without a schedule.
  ADD COLUMN next_start timestamptz,
  -- From the next start to the one after it.
  ADD COLUMN period interval,
  ADD COLUMN last_slot timestamptz,
  ADD COLUMN last_finish timestamptz,
  -- CRITICAL runs in a row.
  ADD COLUMN failures integer NOT NULL DEFAULT 0,
  ADD COLUMN lag_target interval CHECK (lag_target > interval '0' AND isfinite(lag_target)),
  ADD CONSTRAINT job_one_schedule CHECK (num_nonnulls(schedule_interval, cron) <= 1);
CREATE INDEX job_due ON yardmaster.job (next_start, id) WHERE status = 'active' AND next_start IS NOT NULL;
CREATE INDEX job_undecided ON yardmaster.job (id)
  WHERE status = 'active' AND next_start IS NULL AND (schedule_interval IS NOT NULL OR cron IS NOT NULL);

ALTER TABLE yardmaster.replication
  DROP CONSTRAINT replication_type_check,
  ADD CONSTRAINT replication_type_check CHECK (type IN ('snapshot', 'table', 'inserter', 'updater')),
  ADD COLUMN control_column text,
  ADD COLUMN control_by text CHECK (control_by IN ('time', 'serial')),
  -- auto, an interval (time) or a whole number (serial).
  ADD COLUMN boundary text,
  ADD COLUMN key text[],
  ADD COLUMN row_limit bigint CHECK (row_limit > 0),
  -- Zone in which a `timestamp without time zone` is written; NULL: the source database's own.
  ADD COLUMN control_timezone text,
  -- '00:30-02:30': no refresh then on a day on which that zone shifts; 'off'.
  ADD COLUMN dst_window text,
  -- What the last run that took effect said: how far the copy goes, and as of when it holds.
  ADD COLUMN position text,
  ADD COLUMN as_of timestamptz,
  -- The part of its lag that the boundary in use leaves out on purpose.
  ADD COLUMN leaves_out interval,
  ADD CONSTRAINT replication_control CHECK (
    (type IN ('inserter', 'updater')) = (control_column IS NOT NULL AND control_by IS NOT NULL AND boundary IS NOT NULL));

-- A process that carries out runs. Commands are workers without slots: they take nothing that waits.
CREATE TABLE yardmaster.worker (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  host text NOT NULL,
  slots integer NOT NULL CHECK (slots >= 0),
  -- The session whose loss frees what the worker held.
  session_pid integer NOT NULL,
  session_start timestamptz NOT NULL,
  -- By this server's clock. Moved on by each beat; past it, a worker counts as dead though its session stands.
  lease_until timestamptz NOT NULL,
  -- When its session was first found gone.
  missing_since timestamptz,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  end_reason text CHECK (end_reason IN ('stopped', 'lost'))
);
CREATE INDEX worker_live ON yardmaster.worker (id) WHERE ended_at IS NULL;

ALTER TABLE yardmaster.run
  -- Workers carry it out; else the process that asked for it does.
  ADD COLUMN queued boolean NOT NULL DEFAULT false,
  -- Somebody asked for it; else it was due.
  ADD COLUMN requested boolean NOT NULL DEFAULT true,
  ADD COLUMN options jsonb NOT NULL DEFAULT '{}';
CREATE INDEX run_waiting ON yardmaster.run (slot, id) WHERE status = 'WAITING';
CREATE INDEX run_open ON yardmaster.run (job_id) WHERE status IN ('WAITING', 'RUNNING');
-- Whatever two claims see, they never start two runs of one job.
CREATE UNIQUE INDEX run_one_at_once ON yardmaster.run (job_id) WHERE status = 'RUNNING' AND queued;

UPDATE yardmaster.attempt SET status = 'CRITICAL', finished_at = clock_timestamp() WHERE status = 'RUNNING';
UPDATE yardmaster.run SET status = 'CRITICAL', reason = 'worker_lost', finished_at = clock_timestamp(),
  message = 'The program was replaced while this ran.' WHERE status = 'RUNNING';
ALTER TABLE yardmaster.attempt
  DROP COLUMN session_pid,
  DROP COLUMN session_start,
  -- No foreign key: workers that are over are forgotten after a week, attempts keep their names.
  ADD COLUMN worker_id bigint,
  ADD CONSTRAINT attempt_token UNIQUE (token);
CREATE INDEX attempt_of_worker ON yardmaster.attempt (worker_id) WHERE status = 'RUNNING';
