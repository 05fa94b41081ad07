-- Jobs that were taken over from other programs, and since when an attempt waits for a lock by its target's own word.

CREATE TABLE yardmaster.job_origin (
  job_id integer PRIMARY KEY REFERENCES yardmaster.job ON DELETE CASCADE,
  program text NOT NULL CHECK (program IN ('hdbpp')),
  -- Where it stood there, and by which number: its procedure is called with that one still.
  database_id bigint NOT NULL REFERENCES yardmaster.managed_database ON DELETE CASCADE,
  number bigint NOT NULL,
  -- That program's own table in which its runs are counted still; NULL: nowhere.
  stats_schema text,
  stats_name text,
  CHECK (num_nulls(stats_schema, stats_name) IN (0, 2)),
  UNIQUE (program, database_id, number)
);

DROP FUNCTION IF EXISTS yardmaster.report_blocked(uuid, text);
