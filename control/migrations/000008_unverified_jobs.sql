-- Jobs that nobody has looked at yet in their databases are found without reading the others.

CREATE INDEX job_unverified ON yardmaster.job (id) WHERE status = 'unverified';
DROP FUNCTION IF EXISTS yardmaster.unverified_jobs(integer);
