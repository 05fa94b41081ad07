-- What a database gets in which jobs run that take effect once: a row for each run that did, written by the run's own transaction.

CREATE TABLE yardmaster.job_effect (
  control_id uuid NOT NULL,
  run_id bigint NOT NULL,
  job_id integer NOT NULL,
  attempt integer NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (control_id, run_id)
);
CREATE INDEX job_effect_at ON yardmaster.job_effect (at);
COMMENT ON TABLE yardmaster.job_effect IS 'yardmaster target schema 1';

REVOKE ALL ON TABLE yardmaster.job_effect FROM PUBLIC;
