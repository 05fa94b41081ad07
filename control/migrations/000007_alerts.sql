-- Alerts that stay until they are over, rules by job, webhooks that hear of alerts, and how long history is kept.

-- What differs from the default for one job; NULL: the default.
CREATE TABLE yardmaster.alert_rule (
  job_id integer PRIMARY KEY REFERENCES yardmaster.job ON DELETE CASCADE,
  -- No run completed, one run going on, or one waiting for a lock for so long: WARNING, CRITICAL.
  warn interval CHECK (warn > interval '0'),
  error interval CHECK (error > interval '0'),
  -- Bad runs in a row before FAILED_RUN.
  sensitivity integer CHECK (sensitivity BETWEEN 1 AND 1000),
  -- Alerts of bad runs on the level WARNING before CRITICAL.
  escalate integer CHECK (escalate BETWEEN 1 AND 1000),
  CHECK (warn <= error)
);

CREATE TABLE yardmaster.alert (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- As check_job_status has it: FAILED_RUN, MISSING, BLOCKED, RUNNING, and those of placement.
  status text NOT NULL,
  job_name text NOT NULL,
  -- 2 WARNING, 3 CRITICAL.
  level integer NOT NULL CHECK (level IN (2, 3)),
  text text NOT NULL,
  -- When that text was found; a newer one with other figures is written once a minute.
  text_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Its level.
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamptz,
  acknowledged_at timestamptz,
  acknowledged_by text,
  note text,
  silenced_until timestamptz,
  silenced_by text
);
-- A name may be longer than a btree takes.
CREATE UNIQUE INDEX alert_open ON yardmaster.alert (status, hashtextextended(job_name, 0)) WHERE closed_at IS NULL;
CREATE INDEX alert_silenced ON yardmaster.alert (silenced_until) WHERE closed_at IS NOT NULL AND silenced_until IS NOT NULL;
CREATE INDEX alert_closed ON yardmaster.alert (closed_at, id) WHERE closed_at IS NOT NULL;

-- When alerts were last looked for.
CREATE TABLE yardmaster.alert_evaluation (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  at timestamptz
);
INSERT INTO yardmaster.alert_evaluation DEFAULT VALUES;

-- Who holds the lock that an attempt waits for in its target, and since when, as its worker saw it.
ALTER TABLE yardmaster.attempt
  ADD COLUMN blocked_since timestamptz,
  ADD COLUMN blocked_by text;
CREATE INDEX attempt_blocked ON yardmaster.attempt (id) WHERE status = 'RUNNING' AND blocked_since IS NOT NULL;

-- Where alerts are told. Its secret is stored as a database's password is.
CREATE TABLE yardmaster.webhook (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  url text NOT NULL CHECK (url ~ '^https?://[^/?#@]+(/[^#]*)?$'),
  secret_id uuid NOT NULL REFERENCES yardmaster.secret,
  -- It may be on this host or in a private network.
  allow_private boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  created_by text NOT NULL,
  -- Messages so far; deliveries themselves are forgotten some time after their alert is over.
  delivered bigint NOT NULL DEFAULT 0,
  given_up bigint NOT NULL DEFAULT 0
);

-- What is to be told to one webhook. Later ones of the same alert wait for the earlier ones.
CREATE TABLE yardmaster.webhook_delivery (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The same at every attempt: by it a receiver knows what it has heard already.
  message_id uuid NOT NULL DEFAULT gen_random_uuid(),
  webhook_id integer NOT NULL REFERENCES yardmaster.webhook ON DELETE CASCADE,
  alert_id bigint NOT NULL REFERENCES yardmaster.alert ON DELETE CASCADE,
  event text NOT NULL CHECK (event IN ('opened', 'changed', 'closed')),
  -- As it was then.
  body text NOT NULL,
  status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'delivered', 'given_up')),
  attempts integer NOT NULL DEFAULT 0,
  -- While somebody tries it: when that counts as failed.
  next_try timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- What the last attempt came to: 204, or why there was no answer.
  outcome text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz
);
CREATE INDEX webhook_delivery_waiting ON yardmaster.webhook_delivery (webhook_id, next_try) WHERE status = 'waiting';
CREATE INDEX webhook_delivery_order ON yardmaster.webhook_delivery (alert_id, webhook_id, id);
CREATE INDEX webhook_delivery_of_webhook ON yardmaster.webhook_delivery (webhook_id, id);
CREATE INDEX webhook_delivery_finished ON yardmaster.webhook_delivery (finished_at) WHERE finished_at IS NOT NULL;

-- How long ended runs are kept: by age, and by number for each job in each database.
CREATE TABLE yardmaster.history_limit (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  keep_for interval NOT NULL DEFAULT interval '30 days' CHECK (keep_for > interval '0'),
  successes integer NOT NULL DEFAULT 1000 CHECK (successes >= 1),
  failures integer NOT NULL DEFAULT 1000 CHECK (failures >= 1),
  -- The job whose runs were counted last.
  counted_job integer NOT NULL DEFAULT 0
);
INSERT INTO yardmaster.history_limit DEFAULT VALUES;
CREATE INDEX run_finished ON yardmaster.run (finished_at) WHERE status IN ('OK', 'WARNING', 'CRITICAL');
