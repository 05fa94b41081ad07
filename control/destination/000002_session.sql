-- The session that holds the lock for the attempt that may write: what a worker that was given up has left, is ended by it.

ALTER TABLE yardmaster.position ADD COLUMN session_pid integer, ADD COLUMN session_start timestamptz;
COMMENT ON TABLE yardmaster.position IS 'yardmaster destination schema 2';
