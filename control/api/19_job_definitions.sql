-- Jobs that call procedures, run statements or tasks: TimescaleDB's model, for any database.

-- The database that is meant where none is named: the setting yardmaster.database, else the only one that is registered.
CREATE OR REPLACE FUNCTION yardmaster.default_database()
RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  names text[];
BEGIN
  IF nullif(current_setting('yardmaster.database', true), '') IS NOT NULL THEN
    RETURN current_setting('yardmaster.database');
  END IF;
  names := ARRAY(SELECT d.name FROM yardmaster.managed_database d ORDER BY d.name LIMIT 9);
  IF cardinality(names) <> 1 THEN
    RAISE EXCEPTION 'A job runs in a registered database, and %.', CASE cardinality(names) WHEN 0 THEN 'none is registered'
        ELSE 'there are several: ' || yardmaster.names_in_words(names) END USING ERRCODE = 'YM003',
      HINT = CASE cardinality(names) WHEN 0 THEN 'yardmaster database add NAME URL' ELSE 'Name it: database => ''crm'', or for a whole script: set yardmaster.database = ''crm''' END;
  END IF;
  RETURN names[1];
END
$$;

-- What must be so of a definition's parts, in words; NULL for what is none. `task` and `statements` are kinds of their own.
CREATE OR REPLACE FUNCTION yardmaster.job_option_kind(name text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN name IN ('proc', 'check_config', 'name', 'task', 'database', 'cron', 'site') THEN 'a text'
    WHEN name = 'statements' THEN 'a list of texts'
    WHEN name = 'config' THEN 'anything'
    WHEN name IN ('scheduled', 'fixed_schedule', 'verified') THEN 'true or false'
    WHEN name = 'schedule_interval' THEN 'an interval above 0'
    WHEN name IN ('max_runtime', 'retry_period', 'catch_up', 'jitter') THEN 'an interval that is not negative'
    WHEN name = 'timezone' THEN 'a time zone'
    WHEN name = 'pool' THEN 'the name of a pool'
    WHEN name = 'initial_start' THEN 'a time from the year 1 to 9998'
    WHEN name = 'next_start' THEN 'a time up to the year 9998 or infinity'
    WHEN name = 'max_retries' THEN 'a whole number of -1 (no end) or more'
    WHEN name = 'priority' THEN 'a whole number from -1000 to 1000'
    WHEN name = 'overlap' THEN 'skip, buffer, allow or cancel'
    WHEN name = 'retry_on_crash' THEN 'now, never or an interval'
    WHEN name = 'after' THEN 'a list of jobs' END
$$;

CREATE OR REPLACE FUNCTION yardmaster.job_option_fits(kind text, value jsonb)
RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  content text := value #>> '{}';
BEGIN
  RETURN CASE kind
    WHEN 'anything' THEN true
    WHEN 'a time from the year 1 to 9998' THEN jsonb_typeof(value) = 'string' AND content::timestamptz >= '0001-01-02' AND content::timestamptz < '9999-01-01'
    WHEN 'a time up to the year 9998 or infinity' THEN jsonb_typeof(value) = 'string' AND content::timestamptz > '-infinity'
      AND (content::timestamptz < '9999-01-01' OR content::timestamptz = 'infinity')
    WHEN 'a whole number of -1 (no end) or more' THEN jsonb_typeof(value) = 'number' AND content ~ '^(-1|[0-9]{1,9})$'
    WHEN 'a whole number from -1000 to 1000' THEN jsonb_typeof(value) = 'number' AND content ~ '^-?[0-9]{1,4}$' AND content::integer BETWEEN -1000 AND 1000
    WHEN 'skip, buffer, allow or cancel' THEN content IN ('skip', 'buffer', 'allow', 'cancel')
    WHEN 'now, never or an interval' THEN content IN ('now', 'never') OR yardmaster.option_fits('an interval that is not negative', value)
    WHEN 'a list of jobs' THEN jsonb_typeof(value) = 'array'
    ELSE yardmaster.option_fits(kind, value) END;
EXCEPTION WHEN data_exception THEN
  RETURN false;
END
$$;

-- Refuses keys that there are none of, and values that are not of their kind. A JSON null means none, where a job can be without.
CREATE OR REPLACE FUNCTION yardmaster.require_job_options(options jsonb, adding boolean)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  option record;
BEGIN
  IF options IS NULL OR jsonb_typeof(options) <> 'object' THEN
    RAISE EXCEPTION 'What a job is is a JSON object.' USING ERRCODE = 'YM003',
      HINT = 'For example: select yardmaster.define_job(''{"proc": "public.refresh_marts", "database": "dwh", "cron": "30 2 * * *"}'')';
  END IF;
  FOR option IN SELECT o.key, o.value, yardmaster.job_option_kind(o.key) AS kind FROM jsonb_each(options) o LOOP
    IF option.kind IS NULL OR option.key = 'next_start' AND adding OR option.key = 'task' AND NOT adding THEN
      RAISE EXCEPTION 'A job has no %option %.', CASE WHEN adding THEN '' ELSE 'changeable ' END, option.key USING ERRCODE = 'YM003';
    END IF;
    CONTINUE WHEN option.value = 'null' AND option.key IN ('check_config', 'name', 'config', 'schedule_interval', 'cron', 'initial_start', 'catch_up',
      'pool', 'site', 'retry_on_crash', 'timezone') OR adding AND option.value = 'null';
    IF yardmaster.job_option_fits(option.kind, option.value) IS NOT TRUE THEN
      RAISE EXCEPTION 'The option % must be %, not %.', option.key, option.kind, option.value USING ERRCODE = 'YM003';
    END IF;
  END LOOP;
  IF options ->> 'schedule_interval' IS NOT NULL AND options ->> 'cron' IS NOT NULL THEN
    RAISE EXCEPTION 'A schedule is an interval or a cron expression, not both.' USING ERRCODE = 'YM003';
  END IF;
END
$$;

-- The parts of a procedure's name: schema (NULL where the search path decides) and name. `what`: for the message.
CREATE OR REPLACE FUNCTION yardmaster.routine_name(what text, wanted text)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parts text[];
BEGIN
  parts := parse_ident(wanted);
  IF cardinality(parts) > 2 OR EXISTS (SELECT 1 FROM unnest(parts) p WHERE p = '' OR octet_length(p) > 63) THEN
    RAISE EXCEPTION '% is not the name of %.', quote_literal(wanted), what USING ERRCODE = 'YM003';
  END IF;
  RETURN CASE cardinality(parts) WHEN 1 THEN ARRAY[NULL, parts[1]] ELSE parts END;
EXCEPTION WHEN invalid_parameter_value THEN
  RAISE EXCEPTION '% is not the name of %.', quote_literal(wanted), what USING ERRCODE = 'YM003',
    HINT = 'It is written as in SQL, without arguments: public.refresh_marts, or "Odd Schema"."Odd.Name".';
END
$$;

-- What the audit keeps of a job.
CREATE OR REPLACE FUNCTION yardmaster.job_snapshot(job_id integer)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_strip_nulls(to_jsonb(j) - '{deleted_at, schedule_origin, schedule_since}'::text[] || (to_jsonb(a) - '{job_id, database_id}'::text[])
    || jsonb_build_object('database', d.name, 'after', (SELECT jsonb_agg(jsonb_build_object('job', p.after_job_id, 'needs', p.needs) ORDER BY p.after_job_id)
      FROM yardmaster.job_dependency p WHERE p.job_id = j.id)))
  FROM yardmaster.job j JOIN yardmaster.job_action a ON a.job_id = j.id LEFT JOIN yardmaster.managed_database d ON d.id = a.database_id
  WHERE j.id = $1
$$;

-- A job as it is, locked until the caller's transaction ends; refused where it is none of the caller's. The lock lets runs of it be
-- made: whoever makes them holds the job's state, which whoever changes the job wants next.
CREATE OR REPLACE FUNCTION yardmaster.locked_job(job_id integer, verb text)
RETURNS yardmaster.job LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_job yardmaster.job;
BEGIN
  IF job_id IS NULL THEN
    RAISE EXCEPTION 'job ID cannot be NULL' USING ERRCODE = 'YM003';
  END IF;
  SELECT * INTO found_job FROM yardmaster.job j WHERE j.id = locked_job.job_id AND j.deleted_at IS NULL FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'job % not found', job_id USING ERRCODE = 'YM001';
  END IF;
  IF NOT yardmaster.may_act_as(found_job.owner) THEN
    RAISE EXCEPTION 'insufficient permissions to % job %', verb, job_id USING ERRCODE = 'insufficient_privilege',
      DETAIL = format('Job %s is owned by role "%s" but user "%s" does not belong to that role.', job_id, found_job.owner, session_user);
  END IF;
  IF found_job.kind = 'replication' AND verb IN ('alter', 'delete') THEN
    RAISE EXCEPTION 'Job % is a replication.', job_id USING ERRCODE = 'YM002', HINT = 'yardmaster replication set, pause, resume and remove change it.';
  END IF;
  RETURN found_job;
END
$$;

-- Whoever gives a database a tag, or takes it away, and whoever has a job run by tag wait for each other: else neither would see the other.
-- Before the job's own lock, which a change of tags wants too.
CREATE OR REPLACE FUNCTION yardmaster.lock_tags(place text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF place LIKE 'tag:%' THEN
    LOCK TABLE yardmaster.managed_database IN SHARE MODE;
  END IF;
END
$$;

-- Makes a job of a definition; keys as in job_option_kind. It starts when a worker has found what it calls (`verified`: the caller has).
CREATE OR REPLACE FUNCTION yardmaster.define_job(definition jsonb)
RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  new_id integer;
  its_kind text := CASE WHEN definition ->> 'task' IS NOT NULL THEN 'task' WHEN definition ? 'statements' THEN 'sql' ELSE 'procedure' END;
  place text := CASE WHEN its_kind = 'task' THEN definition ->> 'database' ELSE coalesce(definition ->> 'database', yardmaster.default_database()) END;
BEGIN
  PERFORM yardmaster.require_job_options(definition, true);
  IF num_nonnulls(definition ->> 'proc', definition ->> 'statements', definition ->> 'task') <> 1 THEN
    RAISE EXCEPTION 'function or procedure cannot be NULL' USING ERRCODE = 'YM003', HINT = 'A job is one of proc, statements and task.';
  END IF;
  IF num_nonnulls(definition ->> 'schedule_interval', definition ->> 'cron', definition ->> 'after') = 0 AND coalesce((definition ->> 'scheduled')::boolean, true)
    AND NOT definition ? 'schedule_interval' THEN
    RAISE EXCEPTION 'schedule interval cannot be NULL' USING ERRCODE = 'YM003',
      HINT = 'Give an interval, a cron expression, or what it starts after; with scheduled => false it runs when somebody asks for it.';
  END IF;
  PERFORM yardmaster.require_use(place, its_kind = 'sql');
  PERFORM yardmaster.lock_tags(place);
  INSERT INTO yardmaster.job (kind, status, created_by, owner)
  VALUES (its_kind, CASE WHEN (definition ->> 'scheduled')::boolean IS FALSE THEN 'paused' ELSE 'unverified' END, yardmaster.caller(), session_user)
  RETURNING id INTO new_id;
  UPDATE yardmaster.job j SET paused_at = clock_timestamp(), paused_by = yardmaster.caller(), pause_note = 'added with scheduled => false'
  WHERE j.id = new_id AND j.status = 'paused';
  INSERT INTO yardmaster.job_action (job_id, proc_name, statements, task, database_id, tag)
  VALUES (new_id, CASE its_kind WHEN 'procedure' THEN '?' END, CASE its_kind WHEN 'sql' THEN '{}'::text[] END, definition ->> 'task',
    CASE WHEN place NOT LIKE 'tag:%' THEN yardmaster.database_id_of(place) END, CASE WHEN place LIKE 'tag:%' THEN substr(place, 5) END);
  PERFORM yardmaster.apply_job_options(new_id, definition - '{task, database, scheduled}'::text[]);
  PERFORM yardmaster.sync_job_states(new_id);
  IF definition ->> 'after' IS NOT NULL THEN
    PERFORM yardmaster.set_dependencies(new_id, yardmaster.dependencies_of(definition -> 'after'));
  END IF;
  IF its_kind <> 'procedure' OR (definition ->> 'verified')::boolean THEN
    PERFORM yardmaster.settle_verification(new_id, NULL, NULL, NULL);
  END IF;
  PERFORM yardmaster.record_change('create', 'job', new_id::text, NULL, yardmaster.job_snapshot(new_id));
  PERFORM yardmaster.wake_workers();
  RETURN new_id;
END
$$;

-- `[1001, "1002:done"]` as set_dependencies takes it.
CREATE OR REPLACE FUNCTION yardmaster.dependencies_of(list jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(jsonb_agg(CASE jsonb_typeof(e) WHEN 'object' THEN e
    ELSE jsonb_build_object('job', split_part(e #>> '{}', ':', 1), 'needs', coalesce(nullif(split_part(e #>> '{}', ':', 2), ''), 'succeeded')) END), '[]')
  FROM jsonb_array_elements(list) e
$$;

-- Writes checked options; a key that is absent stays as it is.
CREATE OR REPLACE FUNCTION yardmaster.apply_job_options(job_id integer, options jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  proc text[] := CASE WHEN options ->> 'proc' IS NOT NULL THEN yardmaster.routine_name('a function or procedure', options ->> 'proc') END;
  checker text[] := CASE WHEN options ->> 'check_config' IS NOT NULL THEN yardmaster.routine_name('a function', options ->> 'check_config') END;
  mine yardmaster.job;
BEGIN
  UPDATE yardmaster.job_action a SET
    proc_schema = CASE WHEN proc IS NULL THEN a.proc_schema ELSE proc[1] END, proc_name = CASE WHEN proc IS NULL THEN a.proc_name ELSE proc[2] END,
    check_schema = CASE WHEN options ? 'check_config' THEN checker[1] ELSE a.check_schema END,
    check_name = CASE WHEN options ? 'check_config' THEN checker[2] ELSE a.check_name END,
    statements = CASE WHEN options ? 'statements' THEN yardmaster.text_array(options -> 'statements') ELSE a.statements END,
    config = CASE WHEN options ? 'config' THEN nullif(options -> 'config', 'null') ELSE a.config END
  WHERE a.job_id = apply_job_options.job_id;
  PERFORM yardmaster.name_site(options ->> 'site');
  UPDATE yardmaster.job j SET
    name = CASE WHEN options ? 'name' THEN options ->> 'name' ELSE j.name END,
    site = CASE WHEN options ? 'site' THEN options ->> 'site' ELSE j.site END,
    pool = CASE WHEN options ? 'pool' THEN options ->> 'pool' ELSE j.pool END,
    priority = coalesce((options ->> 'priority')::integer, j.priority),
    max_runtime = coalesce((options ->> 'max_runtime')::interval, j.max_runtime),
    max_retries = coalesce((options ->> 'max_retries')::integer, j.max_retries),
    retry_period = coalesce((options ->> 'retry_period')::interval, j.retry_period),
    retry_on_crash = CASE WHEN options ? 'retry_on_crash' THEN options ->> 'retry_on_crash' ELSE j.retry_on_crash END,
    overlap = coalesce(options ->> 'overlap', j.overlap),
    catch_up = CASE WHEN options ? 'catch_up' THEN (options ->> 'catch_up')::interval ELSE j.catch_up END,
    jitter = coalesce((options ->> 'jitter')::interval, j.jitter),
    fixed_schedule = coalesce((options ->> 'fixed_schedule')::boolean, j.fixed_schedule),
    timezone = coalesce(options ->> 'timezone', j.timezone),
    initial_start = CASE WHEN options ? 'initial_start' THEN (options ->> 'initial_start')::timestamptz ELSE j.initial_start END,
    schedule_origin = CASE WHEN options ->> 'initial_start' IS NOT NULL THEN (options ->> 'initial_start')::timestamptz ELSE j.schedule_origin END,
    schedule_since = CASE WHEN options ?| '{schedule_interval, cron, timezone, initial_start, fixed_schedule}' THEN clock_timestamp() ELSE j.schedule_since END,
    schedule_interval = CASE WHEN options ? 'schedule_interval' OR options ->> 'cron' IS NOT NULL THEN (options ->> 'schedule_interval')::interval ELSE j.schedule_interval END,
    cron = CASE WHEN options ? 'cron' OR options ->> 'schedule_interval' IS NOT NULL THEN options ->> 'cron' ELSE j.cron END
  WHERE j.id = apply_job_options.job_id
  RETURNING j.* INTO mine;
  PERFORM yardmaster.name_states(mine.id);
  IF octet_length(format('%s [%s]', coalesce(mine.name, 'User-Defined Action'), mine.id)) > 63 THEN
    RAISE EXCEPTION 'application name too long.' USING ERRCODE = 'YM003', DETAIL = format('The name %L of job %s takes more than 63 bytes with its number.', mine.name, mine.id);
  END IF;
  IF mine.fixed_schedule AND extract(year FROM mine.schedule_interval) * 12 + extract(month FROM mine.schedule_interval) > 0
    AND mine.schedule_interval <> date_trunc('month', mine.schedule_interval) THEN
    RAISE EXCEPTION 'month intervals cannot have day or time component' USING ERRCODE = 'YM003',
      HINT = 'Fixed schedules in months need whole months; with fixed_schedule => false any interval will do.';
  END IF;
END
$$;

-- Changes a job; a key that is absent stays. Where what it calls or what its check looks at has changed, a worker looks again first
-- (`verified`: the caller has).
CREATE OR REPLACE FUNCTION yardmaster.change_job(job_id integer, changes jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job;
  before jsonb;
  place text;
BEGIN
  PERFORM yardmaster.lock_tags(changes ->> 'database');
  mine := yardmaster.locked_job(change_job.job_id, 'alter');
  before := yardmaster.job_snapshot(change_job.job_id);
  PERFORM yardmaster.require_job_options(changes, false);
  IF changes ? 'proc' AND mine.kind <> 'procedure' OR changes ? 'statements' AND mine.kind <> 'sql' THEN
    RAISE EXCEPTION 'Job % is of the kind %, and that does not change.', mine.id, mine.kind USING ERRCODE = 'YM003', HINT = 'Delete it and add another.';
  END IF;
  SELECT coalesce('tag:' || a.tag, d.name) INTO place
  FROM yardmaster.job_action a LEFT JOIN yardmaster.managed_database d ON d.id = a.database_id WHERE a.job_id = mine.id;
  PERFORM yardmaster.require_use(coalesce(changes ->> 'database', place), mine.kind = 'sql');
  IF changes ->> 'database' IS NOT NULL THEN
    UPDATE yardmaster.job_action a SET tag = CASE WHEN changes ->> 'database' LIKE 'tag:%' THEN substr(changes ->> 'database', 5) END,
      database_id = CASE WHEN changes ->> 'database' NOT LIKE 'tag:%' THEN yardmaster.database_id_of(changes ->> 'database') END
    WHERE a.job_id = mine.id;
  END IF;
  PERFORM yardmaster.apply_job_options(mine.id, changes - '{scheduled, next_start}'::text[]);
  IF changes ? 'after' THEN
    PERFORM yardmaster.set_dependencies(mine.id, yardmaster.dependencies_of(changes -> 'after'));
  END IF;
  IF changes ? 'database' THEN
    PERFORM yardmaster.sync_job_states(mine.id);
  END IF;
  IF mine.kind = 'procedure' AND changes ?| '{proc, check_config, database, config}' AND (changes ->> 'verified')::boolean IS NOT TRUE THEN
    UPDATE yardmaster.job_action a SET verified = false WHERE a.job_id = mine.id AND (a.check_name IS NOT NULL OR changes ?| '{proc, database}');
    IF FOUND THEN
      UPDATE yardmaster.job j SET status = 'unverified' WHERE j.id = mine.id AND j.status = 'active';
    END IF;
  END IF;
  UPDATE yardmaster.job j SET version = j.version + 1 WHERE j.id = mine.id;
  IF (changes ->> 'scheduled')::boolean THEN
    PERFORM yardmaster.resume_job(mine.id, false);
  ELSIF NOT (changes ->> 'scheduled')::boolean THEN
    PERFORM yardmaster.pause_job(mine.id);
  END IF;
  -- TimescaleDB's: the first slot of a new interval is counted from the last end.
  IF changes ->> 'schedule_interval' IS NOT NULL THEN
    PERFORM yardmaster.start_from_last_finish(mine.id);
  END IF;
  IF changes ->> 'next_start' IS NOT NULL AND NOT EXISTS (SELECT 1 FROM yardmaster.job j WHERE j.id = mine.id
      AND (j.schedule_interval IS NOT NULL OR j.cron IS NOT NULL)) THEN
    RAISE EXCEPTION 'Job % has no schedule: a next start would change nothing.', mine.id USING ERRCODE = 'YM002',
      HINT = format('Run it now: select yardmaster.request_run(%s); or give it a schedule.', mine.id);
  END IF;
  IF changes ->> 'next_start' IS NOT NULL THEN
    UPDATE yardmaster.job_state s SET next_start = (changes ->> 'next_start')::timestamptz, next_slot = NULL
    WHERE s.job_id = mine.id AND s.in_scope;
  END IF;
  PERFORM yardmaster.record_change('update', 'job', mine.id::text, before, yardmaster.job_snapshot(mine.id));
  PERFORM yardmaster.wake_workers();
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.start_from_last_finish(job_id integer)
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  UPDATE yardmaster.job_state s SET next_start = (s.last_finish AT TIME ZONE j.timezone + j.schedule_interval) AT TIME ZONE j.timezone, next_slot = NULL
  FROM yardmaster.job j WHERE j.id = $1 AND s.job_id = j.id AND s.scheduled AND s.last_finish IS NOT NULL
    -- A run that is under way decides when it ends.
    AND NOT EXISTS (SELECT 1 FROM yardmaster.run r WHERE r.job_id = s.job_id AND r.database_id = s.database_id AND r.status IN ('WAITING', 'RUNNING')
      AND NOT r.requested)
$$;

-- TimescaleDB's add_job, by arguments and messages; what stands behind `job_name` is ours. `database`: the name of a registered one, or
-- tag:T for one run in each that has the tag; NULL: see default_database.
CREATE OR REPLACE FUNCTION yardmaster.add_job(
  proc text, schedule_interval interval, config jsonb DEFAULT NULL, initial_start timestamptz DEFAULT NULL, scheduled boolean DEFAULT true,
  check_config text DEFAULT NULL, fixed_schedule boolean DEFAULT true, timezone text DEFAULT NULL, job_name text DEFAULT NULL,
  database text DEFAULT NULL, site text DEFAULT NULL, cron text DEFAULT NULL, max_runtime interval DEFAULT NULL, max_retries integer DEFAULT NULL,
  retry_period interval DEFAULT NULL, retry_on_crash text DEFAULT NULL, overlap text DEFAULT NULL, catch_up interval DEFAULT NULL,
  jitter interval DEFAULT NULL, priority integer DEFAULT NULL, pool text DEFAULT NULL, after jsonb DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF proc IS NULL THEN
    RAISE EXCEPTION 'function or procedure cannot be NULL' USING ERRCODE = 'YM003';
  END IF;
  RETURN yardmaster.define_job(jsonb_strip_nulls(jsonb_build_object('proc', proc, 'schedule_interval', schedule_interval, 'initial_start', initial_start,
    'scheduled', scheduled, 'check_config', check_config, 'fixed_schedule', fixed_schedule, 'timezone', timezone, 'name', job_name,
    'database', database, 'site', site, 'cron', cron, 'max_runtime', max_runtime, 'max_retries', max_retries, 'retry_period', retry_period,
    'retry_on_crash', retry_on_crash, 'overlap', overlap, 'catch_up', catch_up, 'jitter', jitter, 'priority', priority, 'pool', pool, 'after', after))
    || CASE WHEN config IS NULL THEN '{}' ELSE jsonb_build_object('config', config) END);
END
$$;

-- TimescaleDB's alter_job. NULL keeps what is there, the time zone too. The next start is NULL until a worker has decided it.
CREATE OR REPLACE FUNCTION yardmaster.alter_job(
  job_id integer, schedule_interval interval DEFAULT NULL, max_runtime interval DEFAULT NULL, max_retries integer DEFAULT NULL,
  retry_period interval DEFAULT NULL, scheduled boolean DEFAULT NULL, config jsonb DEFAULT NULL, next_start timestamptz DEFAULT NULL,
  if_exists boolean DEFAULT false, check_config text DEFAULT NULL, fixed_schedule boolean DEFAULT NULL, initial_start timestamptz DEFAULT NULL,
  timezone text DEFAULT NULL, job_name text DEFAULT NULL, config_merge jsonb DEFAULT NULL)
RETURNS yardmaster.altered_job LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  altered yardmaster.altered_job;
BEGIN
  IF alter_job.job_id IS NULL THEN
    RAISE EXCEPTION 'job ID cannot be NULL' USING ERRCODE = 'YM003';
  END IF;
  IF alter_job.if_exists AND NOT EXISTS (SELECT 1 FROM yardmaster.job j WHERE j.id = alter_job.job_id AND j.deleted_at IS NULL) THEN
    RAISE NOTICE 'job % not found, skipping', alter_job.job_id;
    RETURN NULL;
  END IF;
  IF alter_job.config IS NOT NULL AND alter_job.config_merge IS NOT NULL THEN
    RAISE EXCEPTION 'cannot use both config and config_merge' USING ERRCODE = 'YM003';
  END IF;
  IF alter_job.next_start = '-infinity' THEN
    RAISE EXCEPTION 'next_start cannot be -infinity' USING ERRCODE = 'YM003';
  END IF;
  -- Before its config is read, so that two merges at once are both kept.
  PERFORM yardmaster.locked_job(alter_job.job_id, 'alter');
  PERFORM yardmaster.change_job(alter_job.job_id, jsonb_strip_nulls(jsonb_build_object('schedule_interval', alter_job.schedule_interval,
      'max_runtime', alter_job.max_runtime, 'max_retries', alter_job.max_retries, 'retry_period', alter_job.retry_period,
      'scheduled', alter_job.scheduled, 'next_start', alter_job.next_start, 'fixed_schedule', alter_job.fixed_schedule,
      'initial_start', alter_job.initial_start, 'timezone', alter_job.timezone, 'name', alter_job.job_name))
    || CASE WHEN alter_job.config IS NOT NULL THEN jsonb_build_object('config', alter_job.config)
      WHEN alter_job.config_merge IS NOT NULL THEN jsonb_build_object('config', (SELECT coalesce(a.config, '{}') || alter_job.config_merge
        FROM yardmaster.job_action a WHERE a.job_id = alter_job.job_id)) ELSE '{}' END
    -- '-', as regproc writes none, takes the check away.
    || CASE WHEN alter_job.check_config IS NULL THEN '{}' ELSE jsonb_build_object('check_config', nullif(alter_job.check_config, '-')) END);
  SELECT j.id, j.schedule_interval, j.max_runtime, j.max_retries, j.retry_period, j.status IN ('active', 'unverified'), a.config, s.next_start,
    CASE WHEN a.check_name IS NOT NULL THEN concat_ws('.', quote_ident(a.check_schema), quote_ident(a.check_name)) END,
    j.fixed_schedule, j.initial_start, j.timezone, format('%s [%s]', coalesce(j.name, 'User-Defined Action'), j.id) INTO altered
  FROM yardmaster.job j JOIN yardmaster.job_action a ON a.job_id = j.id
  LEFT JOIN LATERAL (SELECT min(s.next_start) AS next_start FROM yardmaster.job_state s WHERE s.job_id = j.id AND s.in_scope) s ON true
  WHERE j.id = alter_job.job_id;
  RETURN altered;
END
$$;

-- NULL for NULL, without an error. What runs is broken off; its history stays.
CREATE OR REPLACE FUNCTION yardmaster.delete_job(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(delete_job.job_id, 'delete');
  before jsonb := yardmaster.job_snapshot(delete_job.job_id);
BEGIN
  -- Nobody has another job start after it meanwhile.
  LOCK TABLE yardmaster.job_dependency IN SHARE ROW EXCLUSIVE MODE;
  PERFORM yardmaster.refuse_awaited(mine.id);
  UPDATE yardmaster.job j SET deleted_at = clock_timestamp(), status = 'removing', version = j.version + 1 WHERE j.id = mine.id;
  DELETE FROM yardmaster.job_dependency d WHERE d.job_id = mine.id;
  -- Its row there may be taken over anew.
  DELETE FROM yardmaster.job_origin o WHERE o.job_id = mine.id;
  -- Its databases may be removed now.
  UPDATE yardmaster.job_action a SET database_id = NULL, tag = '' WHERE a.job_id = mine.id AND a.task IS NULL;
  PERFORM yardmaster.cancel_run(r.id, format('the deletion of its job by %s', yardmaster.caller()))
  FROM yardmaster.run r WHERE r.job_id = mine.id AND r.status IN ('WAITING', 'RUNNING');
  PERFORM yardmaster.record_change('delete', 'job', mine.id::text, before, NULL);
END
$$;

-- No run of it starts by itself until it is resumed; what runs goes on. The note says why; where it is paused already and no note is
-- given, all stays as it was.
CREATE OR REPLACE FUNCTION yardmaster.pause_job(job_id integer, note text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(pause_job.job_id, 'pause');
  before jsonb := yardmaster.job_snapshot(pause_job.job_id);
BEGIN
  IF mine.kind = 'replication' THEN
    PERFORM yardmaster.pause_replication(mine.id, note);
    RETURN;
  END IF;
  IF mine.status = 'paused' AND note IS NULL THEN
    RETURN;
  END IF;
  UPDATE yardmaster.job j SET status = 'paused', pause_note = note, paused_at = coalesce(j.paused_at, clock_timestamp()), paused_by = yardmaster.caller(),
    version = j.version + 1
  WHERE j.id = mine.id;
  PERFORM yardmaster.record_change('update', 'job', mine.id::text, before, yardmaster.job_snapshot(mine.id));
END
$$;

-- Goes on. `forgets`: failures in a row count from none again; else max_retries may pause it at the next one.
CREATE OR REPLACE FUNCTION yardmaster.resume_job(job_id integer, forgets boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(resume_job.job_id, 'resume');
  before jsonb := yardmaster.job_snapshot(resume_job.job_id);
BEGIN
  IF mine.kind = 'replication' THEN
    PERFORM yardmaster.resume_replication(mine.id);
    RETURN;
  END IF;
  UPDATE yardmaster.job_state s SET paused_at = NULL, failures = CASE WHEN forgets THEN 0 ELSE s.failures END, crashed = s.crashed AND NOT forgets
  WHERE s.job_id = mine.id AND (s.paused_at IS NOT NULL OR mine.status = 'paused');
  UPDATE yardmaster.job j SET status = CASE WHEN a.verified THEN 'active' ELSE 'unverified' END, pause_note = NULL, paused_at = NULL, paused_by = NULL,
    version = j.version + 1
  FROM yardmaster.job_action a WHERE j.id = mine.id AND a.job_id = j.id AND j.status = 'paused';
  -- Where it was paused in some of its databases only.
  PERFORM yardmaster.reschedule(s.job_id, s.database_id) FROM yardmaster.job_state s
  WHERE s.job_id = mine.id AND s.in_scope AND NOT s.scheduled;
  PERFORM yardmaster.start_behind(mine.id);
  PERFORM yardmaster.record_change('update', 'job', mine.id::text, before, yardmaster.job_snapshot(mine.id));
END
$$;

-- Jobs that nobody has looked at yet in their databases, by number, behind `after`.
CREATE OR REPLACE FUNCTION yardmaster.unverified_jobs(most integer, after integer DEFAULT 0)
RETURNS TABLE (job_id integer, version integer, proc_schema text, proc_name text, check_schema text, check_name text, config jsonb, databases text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT j.id, j.version, a.proc_schema, a.proc_name, a.check_schema, a.check_name, a.config,
    ARRAY(SELECT t.database FROM yardmaster.job_targets t WHERE t.job_id = j.id AND t.in_scope ORDER BY t.database_id)
  FROM yardmaster.job j JOIN yardmaster.job_action a ON a.job_id = j.id
  WHERE j.status = 'unverified' AND j.deleted_at IS NULL AND j.id > $2 ORDER BY j.id LIMIT $1
$$;

-- What was found in a job's databases: it may start, and its procedure's schema is known; or it is paused with what is wrong. Nothing
-- where the job was changed meanwhile. `version` NULL: whatever it is.
CREATE OR REPLACE FUNCTION yardmaster.settle_verification(job_id integer, version integer, proc_schema text, fault text)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM 1 FROM yardmaster.job j WHERE j.id = settle_verification.job_id
    AND (settle_verification.version IS NULL OR j.version = settle_verification.version) FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE yardmaster.job_action a SET verified = fault IS NULL, proc_schema = coalesce(a.proc_schema, settle_verification.proc_schema)
  WHERE a.job_id = settle_verification.job_id;
  PERFORM yardmaster.name_states(settle_verification.job_id);
  UPDATE yardmaster.job j SET status = CASE WHEN fault IS NULL THEN 'active' ELSE 'paused' END, pause_note = fault,
    paused_at = CASE WHEN fault IS NOT NULL THEN clock_timestamp() END, paused_by = CASE WHEN fault IS NOT NULL THEN 'verification' END,
    version = j.version + 1
  WHERE j.id = settle_verification.job_id AND j.status = 'unverified';
  RETURN FOUND;
END
$$;
