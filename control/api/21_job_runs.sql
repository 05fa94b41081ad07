-- Runs of jobs that somebody asks for: now, for slots of the past, once more; and how they are waited for.

-- Runs a job now, in every database that it runs in or in the one that is named, with these parameters laid over its config. Returns
-- the runs. One that waits already for the same is not made twice.
CREATE OR REPLACE FUNCTION yardmaster.request_run(job_id integer, params jsonb DEFAULT NULL, database text DEFAULT NULL)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(request_run.job_id, 'run');
  runs bigint[];
BEGIN
  IF params IS NOT NULL AND jsonb_typeof(params) <> 'object' THEN
    RAISE EXCEPTION 'The parameters of a run are a JSON object, not %.', params USING ERRCODE = 'YM003';
  END IF;
  IF params IS NOT NULL AND mine.kind IN ('replication', 'sql') THEN
    RAISE EXCEPTION 'A job of the kind % takes no parameters.', mine.kind USING ERRCODE = 'YM003';
  END IF;
  IF database IS NOT NULL THEN
    PERFORM yardmaster.database_id_of(database);
  END IF;
  runs := ARRAY(SELECT yardmaster.queue_run(mine.id, NULL, CASE WHEN params IS NULL THEN '{}' ELSE jsonb_build_object('params', params) END, t.database_id)
    FROM yardmaster.job_targets t WHERE t.job_id = mine.id AND t.in_scope AND (request_run.database IS NULL OR t.database = request_run.database)
    ORDER BY t.database_id);
  IF cardinality(runs) = 0 THEN
    RAISE EXCEPTION 'Job % runs in no database%.', mine.id, coalesce(' named ' || database, ' now') USING ERRCODE = 'YM002';
  END IF;
  RETURN runs;
END
$$;

-- Makes the runs of slots that were not run: those of them that were are left alone. They wait behind one another.
CREATE OR REPLACE FUNCTION yardmaster.backfill_slots(job_id integer, slots timestamptz[], database text DEFAULT NULL)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(backfill_slots.job_id, 'run');
  runs bigint[];
BEGIN
  IF slots IS NULL OR cardinality(slots) = 0 OR cardinality(slots) > 10000 OR array_position(slots, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'A backfill has 1 to 10000 slots.' USING ERRCODE = 'YM003';
  END IF;
  WITH made AS (
    INSERT INTO yardmaster.run (job_id, slot, due_at, database_id, operation, object, site, lane, status, queued, requested, shares, options)
    SELECT t.job_id, u.slot, clock_timestamp(), t.database_id, t.operation, t.object, t.site, t.lane, 'WAITING', true, true, t.overlap = 'allow',
      jsonb_build_object('backfill', true)
    FROM yardmaster.job_targets t CROSS JOIN unnest(slots) WITH ORDINALITY AS u(slot, place)
    WHERE t.job_id = mine.id AND t.in_scope AND (backfill_slots.database IS NULL OR t.database = backfill_slots.database)
    ORDER BY u.place, t.database_id
    ON CONFLICT ON CONSTRAINT run_job_id_slot_database_id_key DO NOTHING
    RETURNING id)
  SELECT coalesce(array_agg(m.id ORDER BY m.id), '{}') INTO runs FROM made m;
  PERFORM yardmaster.record_change('update', 'job', mine.id::text, NULL, jsonb_build_object('backfill', slots, 'runs', cardinality(runs)));
  PERFORM yardmaster.wake_workers();
  RETURN runs;
END
$$;

-- Runs once more what has ended, as it was asked for.
CREATE OR REPLACE FUNCTION yardmaster.retry_run(run_id bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  ended yardmaster.run;
BEGIN
  SELECT * INTO ended FROM yardmaster.run r WHERE r.id = retry_run.run_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no run %.', coalesce(run_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  IF ended.status IN ('WAITING', 'RUNNING') THEN
    RAISE EXCEPTION 'Run % has not ended yet.', run_id USING ERRCODE = 'YM002', HINT = format('See what it does: yardmaster run follow %s', run_id);
  END IF;
  IF ended.operation NOT IN ('refresh', 'call') THEN
    RAISE EXCEPTION 'Run % is a %, which is not simply done again.', run_id, ended.operation USING ERRCODE = 'YM002';
  END IF;
  PERFORM yardmaster.locked_job(ended.job_id, 'run');
  RETURN yardmaster.queue_run(ended.job_id, ended.operation, ended.options, ended.database_id);
END
$$;

-- Calls off every run of a job that is open; returns how many.
CREATE OR REPLACE FUNCTION yardmaster.cancel_job_runs(job_id integer)
RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(cancel_job_runs.job_id, 'cancel');
BEGIN
  RETURN (SELECT count(yardmaster.cancel_run(o.id)) FROM (SELECT r.id FROM yardmaster.run r
    WHERE r.job_id = mine.id AND r.status IN ('WAITING', 'RUNNING') ORDER BY r.id) o);
END
$$;

-- How a run stands, for whoever may see its job.
CREATE OR REPLACE FUNCTION yardmaster.run_state(run_id bigint, OUT status text, OUT reason text, OUT message text, OUT sqlstate text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  SELECT r.status, r.reason, r.message, r.sqlstate INTO run_state.status, run_state.reason, run_state.message, run_state.sqlstate
  FROM yardmaster.run r JOIN yardmaster.job j ON j.id = r.job_id WHERE r.id = run_state.run_id AND yardmaster.may_act_as(j.owner);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no run %.', coalesce(run_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
END
$$;

-- Waits until a run has ended; fails where it failed. Commits on the way, so it can't stand in a transaction. No settings of its own: a
-- procedure that has some may not commit; so every name is spelled out.
CREATE OR REPLACE PROCEDURE yardmaster.wait(run_id bigint)
LANGUAGE plpgsql AS $$
DECLARE
  state record;
BEGIN
  -- Nothing can catch the error of a COMMIT. Behind a COMMIT of the caller's, a procedure, the transaction is the younger one.
  IF pg_catalog.transaction_timestamp() OPERATOR(pg_catalog.<) pg_catalog.statement_timestamp() THEN
    RAISE EXCEPTION 'Waiting for a run commits on the way, which is not possible inside a transaction or a function.' USING ERRCODE = 'YM002',
      HINT = 'Call it by itself: CALL yardmaster.wait(17). In a transaction: SELECT yardmaster.request_run(1001), then wait behind the COMMIT.';
  END IF;
  COMMIT;
  LOOP
    SELECT * INTO state FROM yardmaster.run_state(run_id);
    EXIT WHEN state.status OPERATOR(pg_catalog.<>) ALL (ARRAY['WAITING', 'RUNNING']);
    COMMIT;
    PERFORM pg_catalog.pg_sleep(0.1);
  END LOOP;
  IF state.status OPERATOR(pg_catalog.=) 'CRITICAL' THEN
    RAISE EXCEPTION 'Run % failed (%): %', run_id, state.reason, state.message USING ERRCODE = 'YM008';
  END IF;
END
$$;

-- TimescaleDB's run_job, but recorded, and by a worker: runs a job now and waits for the end.
CREATE OR REPLACE PROCEDURE yardmaster.run_job(job_id integer)
LANGUAGE plpgsql AS $$
DECLARE
  runs bigint[];
  one bigint;
BEGIN
  IF pg_catalog.transaction_timestamp() OPERATOR(pg_catalog.<) pg_catalog.statement_timestamp() THEN
    RAISE EXCEPTION 'run_job waits for a worker and commits on the way, which is not possible inside a transaction or a function.' USING ERRCODE = 'YM002',
      HINT = 'Call it by itself: CALL yardmaster.run_job(1001). In a transaction: SELECT yardmaster.request_run(1001), and after the COMMIT: CALL yardmaster.wait(run).';
  END IF;
  COMMIT;
  runs := yardmaster.request_run(job_id);
  COMMIT;
  FOREACH one IN ARRAY runs LOOP
    CALL yardmaster.wait(one);
  END LOOP;
END
$$;
