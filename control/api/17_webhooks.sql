-- Webhooks: who is told of alerts, and what is on its way to them.

-- The secret was encrypted by the program; its id and the URL are what the ciphertext opens for.
CREATE OR REPLACE FUNCTION yardmaster.add_webhook(url text, secret_id uuid, key_id text, ciphertext bytea, allow_private boolean DEFAULT false)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id integer;
BEGIN
  IF add_webhook.url IS NULL OR add_webhook.url !~ '^https?://[^/?#@]+(/[^#]*)?$' THEN
    RAISE EXCEPTION 'The URL of a webhook is https://host/path, without user, password and fragment.' USING ERRCODE = 'YM003';
  END IF;
  IF num_nulls(add_webhook.secret_id, add_webhook.key_id, add_webhook.ciphertext, add_webhook.allow_private) > 0 THEN
    RAISE EXCEPTION 'A webhook needs a secret that the program has encrypted.' USING ERRCODE = 'YM003',
      HINT = 'Add it with: yardmaster alert webhook add URL';
  END IF;
  INSERT INTO yardmaster.secret (id, key_id, ciphertext) VALUES (add_webhook.secret_id, add_webhook.key_id, add_webhook.ciphertext);
  INSERT INTO yardmaster.webhook (url, secret_id, allow_private, created_by)
  VALUES (add_webhook.url, add_webhook.secret_id, add_webhook.allow_private, coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user))
  RETURNING id INTO new_id;
  PERFORM yardmaster.record_change('create', 'webhook', new_id::text, NULL, yardmaster.webhook_snapshot(new_id));
  RETURN new_id;
END
$$;

-- What is still on its way to it is dropped.
CREATE OR REPLACE FUNCTION yardmaster.remove_webhook(webhook_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb := yardmaster.webhook_snapshot(remove_webhook.webhook_id);
  old_secret uuid;
BEGIN
  DELETE FROM yardmaster.webhook w WHERE w.id = remove_webhook.webhook_id RETURNING w.secret_id INTO old_secret;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no webhook %.', coalesce(remove_webhook.webhook_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  DELETE FROM yardmaster.secret s WHERE s.id = old_secret;
  PERFORM yardmaster.record_change('delete', 'webhook', remove_webhook.webhook_id::text, before, NULL);
END
$$;

-- A URL as people and the audit see it: what stands behind a question mark is often a token.
CREATE OR REPLACE FUNCTION yardmaster.shown_url(url text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT regexp_replace($1, '\?.*$', '?…')
$$;

CREATE OR REPLACE FUNCTION yardmaster.webhook_snapshot(webhook_id integer)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object('id', w.id, 'url', yardmaster.shown_url(w.url), 'allow_private', w.allow_private)
  FROM yardmaster.webhook w WHERE w.id = $1
$$;

-- With what became of what they were told.
CREATE OR REPLACE VIEW yardmaster.webhooks AS
  SELECT w.id, yardmaster.shown_url(w.url) AS url, w.allow_private, w.created_at, w.created_by, w.delivered, w.given_up,
    (SELECT count(*)::integer FROM yardmaster.webhook_delivery d WHERE d.webhook_id = w.id AND d.status = 'waiting') AS waiting,
    last.event AS last_event, last.status AS last_status, last.outcome AS last_outcome, last.attempts AS last_attempts,
    CASE WHEN last.status = 'waiting' THEN last.next_try END AS next_try
  FROM yardmaster.webhook w
  LEFT JOIN LATERAL (SELECT d.* FROM yardmaster.webhook_delivery d WHERE d.webhook_id = w.id AND d.attempts > 0
    ORDER BY d.id DESC LIMIT 1) last ON true;

-- As RFC 3339 has it, in UTC.
CREATE OR REPLACE FUNCTION yardmaster.iso_time(at timestamptz)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT to_char($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Has every webhook told. One that never heard of an alert hears of a change that it is open, and of its end nothing.
CREATE OR REPLACE FUNCTION yardmaster.announce_alert(alert_id bigint, event text)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO yardmaster.webhook_delivery (webhook_id, alert_id, event, body)
  SELECT w.id, a.id, e.event, jsonb_build_object('type', 'alert.' || e.event, 'timestamp', yardmaster.iso_time(clock_timestamp()),
    'data', jsonb_build_object('id', a.id::text, 'level', a.level, 'alert_code', a.alert_code, 'alert_status', a.alert_status,
      'job_name', a.job_name, 'alert_text', a.alert_text, 'opened_at', yardmaster.iso_time(a.opened_at),
      'changed_at', yardmaster.iso_time(a.changed_at), 'closed_at', yardmaster.iso_time(a.closed_at)))::text
  FROM yardmaster.alerts a CROSS JOIN yardmaster.webhook w
  CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM yardmaster.webhook_delivery d WHERE d.alert_id = a.id AND d.webhook_id = w.id) AS knows) k
  CROSS JOIN LATERAL (SELECT CASE WHEN $2 = 'changed' AND NOT k.knows THEN 'opened' ELSE $2 END AS event) e
  WHERE a.id = $1 AND (k.knows OR e.event = 'opened')
$$;

-- Takes what is due, at most `most` of each webhook, for half a minute: whoever has not said by then what came of it counts as gone.
CREATE OR REPLACE FUNCTION yardmaster.claim_deliveries(most integer)
RETURNS TABLE (id bigint, message_id uuid, attempt integer, body text, webhook_id integer, url text, allow_private boolean, secret_id uuid,
  key_id text, ciphertext bytea)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH due AS MATERIALIZED (
    SELECT d.id FROM yardmaster.webhook w CROSS JOIN LATERAL (
      SELECT d.id FROM yardmaster.webhook_delivery d
      WHERE d.webhook_id = w.id AND d.status = 'waiting' AND d.next_try <= clock_timestamp()
        AND NOT EXISTS (SELECT 1 FROM yardmaster.webhook_delivery e
          WHERE e.alert_id = d.alert_id AND e.webhook_id = d.webhook_id AND e.id < d.id AND e.status = 'waiting')
      ORDER BY d.next_try LIMIT claim_deliveries.most FOR UPDATE SKIP LOCKED) d
  ), taken AS (
    UPDATE yardmaster.webhook_delivery d SET attempts = d.attempts + 1, next_try = clock_timestamp() + interval '30 seconds'
    FROM due WHERE d.id = due.id RETURNING d.*
  )
  SELECT t.id, t.message_id, t.attempts, t.body, w.id, w.url, w.allow_private, s.id, s.key_id, s.ciphertext
  FROM taken t JOIN yardmaster.webhook w ON w.id = t.webhook_id JOIN yardmaster.secret s ON s.id = w.secret_id ORDER BY t.id;
END
$$;

-- Writes down what came of an attempt; one that another took the place of says nothing any more. What failed is tried again, ever
-- later (5 s, 15 s, … 6 h, a fifth more or less), for a day. Returns its status; NULL: not this attempt's any more.
CREATE OR REPLACE FUNCTION yardmaster.record_delivery(delivery_id bigint, attempt integer, delivered boolean, outcome text)
RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_status text;
  told integer;
BEGIN
  UPDATE yardmaster.webhook_delivery d
  SET outcome = left(record_delivery.outcome, 500),
    status = CASE WHEN record_delivery.delivered THEN 'delivered' WHEN d.created_at < clock_timestamp() - interval '24 hours' THEN 'given_up' ELSE 'waiting' END,
    finished_at = CASE WHEN record_delivery.delivered OR d.created_at < clock_timestamp() - interval '24 hours' THEN clock_timestamp() END,
    next_try = clock_timestamp() + least(interval '5 seconds' * 3 ^ (least(d.attempts, 20) - 1), interval '6 hours') * (0.8 + 0.4 * random())
  WHERE d.id = record_delivery.delivery_id AND d.attempts = record_delivery.attempt AND d.status = 'waiting'
  RETURNING d.status, d.webhook_id INTO new_status, told;
  UPDATE yardmaster.webhook w SET delivered = w.delivered + (new_status = 'delivered')::integer, given_up = w.given_up + (new_status = 'given_up')::integer
  WHERE w.id = told AND new_status <> 'waiting';
  RETURN new_status;
END
$$;
