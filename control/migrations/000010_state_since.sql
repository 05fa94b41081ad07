-- From when on a job's slots in one of its databases count: a database that comes to a tag later has missed none.

ALTER TABLE yardmaster.job_state ADD COLUMN since timestamptz NOT NULL DEFAULT clock_timestamp();
UPDATE yardmaster.job_state SET since = '-infinity';
