CREATE OR REPLACE VIEW yardmaster.replications AS
  SELECT r.job_id, r.id AS replication_id, r.type,
    s.name AS source_database, r.source_schema, r.source_name,
    yardmaster.display_name(r.source_schema) || '.' || yardmaster.display_name(r.source_name) AS source_table,
    d.name AS destination_database, r.destination_schema, r.destination_name,
    yardmaster.display_name(r.destination_schema) || '.' || yardmaster.display_name(r.destination_name) AS destination_table,
    r.columns, r.condition, r.build_indexes, r.load_data, r.post_script, r.sequences, r.truncate_cascade, r.swap_wait,
    r.control_column, r.control_by, r.boundary, r.key, r.row_limit, r.control_timezone, r.dst_window,
    j.schedule_interval, j.cron, j.timezone, j.lag_target,
    j.site, j.status, j.paused_at, j.paused_by, j.pause_note, j.version, j.created_at, j.created_by,
    st.next_start, st.period, r.position, r.as_of,
    -- Late is what is older than this; nothing is that has neither a target nor a schedule. What a fixed boundary leaves out on
    -- purpose comes on top of the default.
    coalesce(j.lag_target, CASE WHEN j.schedule_interval IS NOT NULL OR j.cron IS NOT NULL
      THEN greatest(2 * st.period, interval '5 minutes')
        + coalesce(r.leaves_out, CASE WHEN r.control_by = 'time' AND r.boundary <> 'auto' THEN r.boundary::interval END, interval '0') END) AS late_after,
    s.id AS source_database_id, d.id AS destination_database_id, j.schedule_origin, j.pool, st.lane
  FROM yardmaster.replication r
  JOIN yardmaster.job j ON j.id = r.job_id
  LEFT JOIN yardmaster.job_state st ON st.job_id = r.job_id AND st.database_id = r.destination_database
  JOIN yardmaster.managed_database s ON s.id = r.source_database
  JOIN yardmaster.managed_database d ON d.id = r.destination_database;

-- What the audit keeps: the definition, not what runs make of it.
CREATE OR REPLACE FUNCTION yardmaster.replication_snapshot(job_id integer)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT to_jsonb(v) - '{source_database_id, destination_database_id, next_start, period, position, as_of, late_after, schedule_origin, lane}'::text[] FROM yardmaster.replications v WHERE v.job_id = $1
$$;

CREATE OR REPLACE FUNCTION yardmaster.database_id_of(name text)
RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_id bigint;
BEGIN
  SELECT d.id INTO found_id FROM yardmaster.managed_database d WHERE d.name = database_id_of.name;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no database %.', coalesce('"' || database_id_of.name || '"', 'NULL') USING ERRCODE = 'YM001',
      HINT = 'The view yardmaster.databases lists them.';
  END IF;
  RETURN found_id;
END
$$;

-- `database:schema.table`, which people know a replication by.
CREATE OR REPLACE FUNCTION yardmaster.replication_label(snapshot jsonb)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT (snapshot ->> 'destination_database') || ':' || (snapshot ->> 'destination_table')
$$;

-- Refuses names that PostgreSQL would cut, and those that are none.
CREATE OR REPLACE FUNCTION yardmaster.require_name(what text, name text)
RETURNS void LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF name IS NULL OR name = '' OR octet_length(name) > 63 THEN
    RAISE EXCEPTION '% must be a name of 1 to 63 bytes, not %.', what, quote_nullable(name) USING ERRCODE = 'YM003';
  END IF;
END
$$;

-- Registers a replication as `setting_up`; the program then makes its objects and pulls the data. Options as in
-- alter_replication, and those that can only be given here: load_data, control_column, control_by, key.
CREATE OR REPLACE FUNCTION yardmaster.add_replication(
  type text,
  source_database text, source_schema text, source_name text,
  destination_database text, destination_schema text, destination_name text,
  options jsonb DEFAULT '{}')
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  new_id integer;
  after jsonb;
BEGIN
  IF type IS NULL OR type NOT IN ('snapshot', 'table', 'inserter', 'updater') THEN
    RAISE EXCEPTION 'The types of replication are snapshot, table, inserter and updater; % is none.', quote_nullable(type)
      USING ERRCODE = 'YM003';
  END IF;
  PERFORM yardmaster.require_name('source_schema', source_schema), yardmaster.require_name('source_name', source_name),
    yardmaster.require_name('destination_schema', destination_schema), yardmaster.require_name('destination_name', destination_name);
  -- Until this transaction ends, nobody removes them.
  PERFORM 1 FROM yardmaster.managed_database d WHERE d.name IN (source_database, destination_database) ORDER BY d.id FOR KEY SHARE;
  PERFORM yardmaster.require_options(type, options, true);
  INSERT INTO yardmaster.job (kind, status, created_by, owner)
  VALUES ('replication', 'setting_up', yardmaster.caller(), session_user)
  RETURNING id INTO new_id;
  INSERT INTO yardmaster.replication (job_id, type, source_database, source_schema, source_name,
    destination_database, destination_schema, destination_name, build_indexes, load_data,
    post_script, sequences, truncate_cascade, swap_wait, control_column, control_by, boundary, key)
  VALUES (new_id, type, yardmaster.database_id_of(source_database), source_schema, source_name,
    yardmaster.database_id_of(destination_database), destination_schema, destination_name, true,
    coalesce((options ->> 'load_data')::boolean, true), '{}', '{}', false, interval '1 minute',
    options ->> 'control_column', options ->> 'control_by',
    CASE options ->> 'control_by' WHEN 'time' THEN '10 minutes' WHEN 'serial' THEN '10' END, yardmaster.text_array(options -> 'key'))
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Another replication has the destination %:%.% already.', destination_database,
      yardmaster.display_name(destination_schema), yardmaster.display_name(destination_name) USING ERRCODE = 'unique_violation';
  END IF;
  PERFORM yardmaster.sync_job_states(new_id);
  PERFORM yardmaster.apply_replication_options(new_id, options);
  after := yardmaster.replication_snapshot(new_id);
  PERFORM yardmaster.record_change('create', 'replication', yardmaster.replication_label(after), NULL, after);
  RETURN new_id;
END
$$;

-- What an option must be, in words; NULL for what is no option.
CREATE OR REPLACE FUNCTION yardmaster.option_kind(name text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN name IN ('columns', 'post_script', 'sequences', 'key') THEN 'a list of texts'
    WHEN name IN ('build_indexes', 'load_data', 'truncate_cascade') THEN 'true or false'
    WHEN name = 'swap_wait' THEN 'an interval that is not negative'
    WHEN name IN ('schedule_interval', 'lag_target') THEN 'an interval above 0'
    WHEN name = 'row_limit' THEN 'a whole number above 0'
    WHEN name IN ('timezone', 'control_timezone') THEN 'a time zone'
    WHEN name = 'control_by' THEN 'time or serial'
    WHEN name = 'dst_window' THEN 'off or two times such as 00:30-02:30'
    WHEN name = 'pool' THEN 'the name of a pool'
    WHEN name IN ('condition', 'site', 'control_column', 'boundary', 'cron') THEN 'a text' END
$$;

-- Whether a value is what its option wants.
CREATE OR REPLACE FUNCTION yardmaster.option_fits(kind text, value jsonb)
RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  content text := value #>> '{}';
BEGIN
  RETURN CASE kind
    WHEN 'a list of texts' THEN jsonb_typeof(value) = 'array' AND NOT jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")')
    WHEN 'true or false' THEN jsonb_typeof(value) = 'boolean'
    WHEN 'a whole number above 0' THEN jsonb_typeof(value) = 'number' AND content ~ '^[1-9][0-9]{0,17}$'
    WHEN 'an interval that is not negative' THEN jsonb_typeof(value) = 'string' AND content::interval >= interval '0' AND isfinite(content::interval)
    WHEN 'an interval above 0' THEN jsonb_typeof(value) = 'string' AND content::interval > interval '0' AND isfinite(content::interval)
    WHEN 'the name of a pool' THEN jsonb_typeof(value) = 'string' AND content ~ '^[^:]+$' AND octet_length(content) <= 200
    WHEN 'a time zone' THEN jsonb_typeof(value) = 'string' AND content ~ '^[A-Za-z]' AND now() AT TIME ZONE content IS NOT NULL
    WHEN 'time or serial' THEN content IN ('time', 'serial')
    WHEN 'off or two times such as 00:30-02:30' THEN content = 'off' OR content ~ '^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$'
    ELSE jsonb_typeof(value) = 'string' END;
EXCEPTION WHEN data_exception THEN
  RETURN false;
END
$$;

-- Refuses options that there are none of, that mean nothing for the type, and values that are not of their option's kind.
-- NULL is a value where it means "all" or "none".
CREATE OR REPLACE FUNCTION yardmaster.require_options(type text, options jsonb, adding boolean)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  option record;
  control_by text := options ->> 'control_by';
BEGIN
  IF options IS NULL OR jsonb_typeof(options) <> 'object' THEN
    RAISE EXCEPTION 'The options of a replication are a JSON object.' USING ERRCODE = 'YM003',
      HINT = 'For example: select yardmaster.alter_replication(1000, ''{"columns": ["id", "total"]}'')';
  END IF;
  FOR option IN SELECT o.key, o.value, yardmaster.option_kind(o.key) AS kind FROM jsonb_each(options) AS o LOOP
    IF option.kind IS NULL OR (NOT adding AND option.key IN ('load_data', 'control_column', 'control_by', 'key')) THEN
      RAISE EXCEPTION 'A replication has no %option %.', CASE WHEN adding THEN '' ELSE 'changeable ' END, option.key
        USING ERRCODE = 'YM003', HINT = 'They are columns, condition, build_indexes, post_script, sequences, truncate_cascade, swap_wait, '
          'site, pool, boundary, row_limit, control_timezone, dst_window, schedule_interval, cron, timezone and lag_target.';
    END IF;
    CONTINUE WHEN option.value = 'null' AND option.key IN ('columns', 'condition', 'site', 'pool', 'key', 'row_limit', 'control_timezone',
      'dst_window', 'schedule_interval', 'cron', 'lag_target', 'control_column', 'control_by');
    IF yardmaster.option_fits(option.kind, option.value) IS NOT TRUE THEN
      RAISE EXCEPTION 'The option % must be %, not %.', option.key, option.kind, option.value USING ERRCODE = 'YM003';
    END IF;
    IF option.key IN ('columns', 'key') AND option.value = '[]' THEN
      RAISE EXCEPTION 'The option % names no column.', option.key USING ERRCODE = 'YM003', HINT = 'NULL means all columns.';
    END IF;
    IF type NOT IN ('inserter', 'updater')
      AND option.key IN ('control_column', 'control_by', 'boundary', 'key', 'row_limit', 'control_timezone', 'dst_window') THEN
      RAISE EXCEPTION 'The option % has no meaning for the type %.', option.key, type USING ERRCODE = 'YM003';
    END IF;
  END LOOP;
  IF adding AND type IN ('inserter', 'updater') AND (control_by IS NULL OR options ->> 'control_column' IS NULL) THEN
    RAISE EXCEPTION 'The type % needs control_column and control_by: the column by which new rows are told, and time or serial.', type
      USING ERRCODE = 'YM003';
  END IF;
END
$$;

-- Writes checked options; a key that is absent stays as it is.
CREATE OR REPLACE FUNCTION yardmaster.apply_replication_options(job_id integer, options jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_by text;
BEGIN
  SELECT r.control_by INTO found_by FROM yardmaster.replication r WHERE r.job_id = apply_replication_options.job_id;
  IF options ? 'boundary' AND options ->> 'boundary' <> 'auto' AND NOT (CASE found_by
      WHEN 'serial' THEN options ->> 'boundary' ~ '^[0-9]{1,18}$'
      ELSE coalesce(yardmaster.option_fits('an interval that is not negative', options -> 'boundary'), false) END) THEN
    RAISE EXCEPTION 'The option boundary must be auto or %, not %.',
      CASE found_by WHEN 'serial' THEN 'a whole number' ELSE 'an interval' END, options -> 'boundary' USING ERRCODE = 'YM003';
  END IF;
  UPDATE yardmaster.replication r SET
    columns = CASE WHEN options ? 'columns' THEN yardmaster.text_array(options -> 'columns') ELSE r.columns END,
    condition = CASE WHEN options ? 'condition' THEN options ->> 'condition' ELSE r.condition END,
    build_indexes = coalesce((options ->> 'build_indexes')::boolean, r.build_indexes),
    post_script = coalesce(yardmaster.text_array(options -> 'post_script'), r.post_script),
    sequences = coalesce(yardmaster.text_array(options -> 'sequences'), r.sequences),
    truncate_cascade = coalesce((options ->> 'truncate_cascade')::boolean, r.truncate_cascade),
    swap_wait = coalesce((options ->> 'swap_wait')::interval, r.swap_wait),
    boundary = coalesce(options ->> 'boundary', r.boundary),
    row_limit = CASE WHEN options ? 'row_limit' THEN (options ->> 'row_limit')::bigint ELSE r.row_limit END,
    control_timezone = CASE WHEN options ? 'control_timezone' THEN options ->> 'control_timezone' ELSE r.control_timezone END,
    dst_window = CASE WHEN options ? 'dst_window' THEN options ->> 'dst_window' ELSE r.dst_window END
  WHERE r.job_id = apply_replication_options.job_id;
  PERFORM yardmaster.name_site(options ->> 'site');
  UPDATE yardmaster.job j SET
    pool = CASE WHEN options ? 'pool' THEN options ->> 'pool' ELSE j.pool END,
    site = CASE WHEN options ? 'site' THEN options ->> 'site' ELSE j.site END,
    lag_target = CASE WHEN options ? 'lag_target' THEN (options ->> 'lag_target')::interval ELSE j.lag_target END
  WHERE j.id = apply_replication_options.job_id;
  PERFORM yardmaster.set_lanes(apply_replication_options.job_id);
  IF options ?| '{schedule_interval, cron, timezone}' THEN
    PERFORM yardmaster.set_schedule(apply_replication_options.job_id,
      options -> 'schedule_interval', options -> 'cron', options ->> 'timezone');
  END IF;
END
$$;

-- Gives a job another schedule: JSON null takes one away, NULL leaves it; an interval replaces a cron expression and the other
-- way round. Its slots count from now; the next start is decided anew.
CREATE OR REPLACE FUNCTION yardmaster.set_schedule(job_id integer, schedule_interval jsonb, cron jsonb, timezone text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_interval interval := (set_schedule.schedule_interval #>> '{}')::interval;
  new_cron text := set_schedule.cron #>> '{}';
BEGIN
  IF new_interval IS NOT NULL AND new_cron IS NOT NULL THEN
    RAISE EXCEPTION 'A schedule is an interval or a cron expression, not both.' USING ERRCODE = 'YM003';
  END IF;
  UPDATE yardmaster.job j SET
    schedule_interval = CASE WHEN set_schedule.schedule_interval IS NOT NULL OR new_cron IS NOT NULL THEN new_interval ELSE j.schedule_interval END,
    cron = CASE WHEN set_schedule.cron IS NOT NULL OR new_interval IS NOT NULL THEN new_cron ELSE j.cron END,
    timezone = coalesce(set_schedule.timezone, j.timezone),
    schedule_origin = clock_timestamp(), schedule_since = clock_timestamp()
  WHERE j.id = set_schedule.job_id;
  PERFORM yardmaster.wake_workers();
END
$$;

-- A definition as it is, locked until the caller's transaction ends.
CREATE OR REPLACE FUNCTION yardmaster.locked_replication(job_id integer)
RETURNS jsonb LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_one jsonb;
BEGIN
  PERFORM 1 FROM yardmaster.job j WHERE j.id = locked_replication.job_id FOR NO KEY UPDATE;
  found_one := yardmaster.replication_snapshot(locked_replication.job_id);
  IF found_one IS NULL THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', coalesce(locked_replication.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  RETURN found_one;
END
$$;

-- Changes options; a key that is absent from `changes` stays. Keys are the columns of the view `replications`.
CREATE OR REPLACE FUNCTION yardmaster.alter_replication(job_id integer, changes jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  before := yardmaster.locked_replication(alter_replication.job_id);
  PERFORM yardmaster.require_options(before ->> 'type', changes, false);
  PERFORM yardmaster.apply_replication_options(alter_replication.job_id, changes);
  UPDATE yardmaster.job j SET version = j.version + 1 WHERE j.id = alter_replication.job_id;
  PERFORM yardmaster.record_change('update', 'replication', yardmaster.replication_label(before), before,
    yardmaster.replication_snapshot(alter_replication.job_id));
END
$$;

-- NULL for NULL and for JSON null.
CREATE OR REPLACE FUNCTION yardmaster.text_array(list jsonb)
RETURNS text[] LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN jsonb_typeof(list) = 'array' THEN
    coalesce((SELECT array_agg(element ORDER BY n) FROM jsonb_array_elements_text(list) WITH ORDINALITY AS e(element, n)), '{}') END
$$;

-- The journal of set-up and removal: setting_up → active → removing; paused and resumed by people; broken needs a person.
-- Nothing for a removed one.
CREATE OR REPLACE FUNCTION yardmaster.set_replication_status(job_id integer, status text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  IF set_replication_status.status IS NULL OR set_replication_status.status NOT IN ('setting_up', 'active', 'paused', 'broken', 'removing') THEN
    RAISE EXCEPTION 'A replication is setting_up, active, paused, broken or removing, never %.', quote_nullable(set_replication_status.status)
      USING ERRCODE = 'YM003';
  END IF;
  PERFORM 1 FROM yardmaster.job j WHERE j.id = set_replication_status.job_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', coalesce(set_replication_status.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  before := yardmaster.replication_snapshot(set_replication_status.job_id);
  IF set_replication_status.status = 'removing' AND before ->> 'status' <> 'setting_up' THEN
    PERFORM yardmaster.refuse_awaited(set_replication_status.job_id);
  END IF;
  UPDATE yardmaster.job j SET status = set_replication_status.status, version = j.version + 1
  WHERE j.id = set_replication_status.job_id AND j.deleted_at IS NULL AND j.status <> set_replication_status.status;
  IF FOUND THEN
    PERFORM yardmaster.record_change('update', 'replication', yardmaster.replication_label(before), before,
      yardmaster.replication_snapshot(set_replication_status.job_id));
  END IF;
END
$$;

-- The last step of a removal (and of a set-up that is undone): the definition goes, the job stays for its history.
CREATE OR REPLACE FUNCTION yardmaster.remove_replication(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  PERFORM 1 FROM yardmaster.job j WHERE j.id = remove_replication.job_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', coalesce(remove_replication.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  before := yardmaster.replication_snapshot(remove_replication.job_id);
  DELETE FROM yardmaster.replication r WHERE r.job_id = remove_replication.job_id;
  IF FOUND THEN
    UPDATE yardmaster.job j SET deleted_at = now(), status = 'removing', version = j.version + 1
    WHERE j.id = remove_replication.job_id;
    UPDATE yardmaster.run r SET status = 'CRITICAL', reason = 'cancelled', finished_at = clock_timestamp(),
      message = 'The replication was removed before this began.'
    WHERE r.job_id = remove_replication.job_id AND r.status = 'WAITING';
    PERFORM yardmaster.record_change('delete', 'replication', yardmaster.replication_label(before), before, NULL);
  END IF;
END
$$;

-- No run of it starts by itself until it is resumed; what runs goes on. The note says why; where it is paused already and no
-- note is given, all stays as it was.
CREATE OR REPLACE FUNCTION yardmaster.pause_replication(job_id integer, note text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  before := yardmaster.locked_replication(pause_replication.job_id);
  IF before ->> 'status' NOT IN ('active', 'paused') THEN
    RAISE EXCEPTION 'A replication that is % cannot be paused.', before ->> 'status' USING ERRCODE = 'YM002';
  END IF;
  IF before ->> 'status' = 'paused' AND note IS NULL THEN
    RETURN;
  END IF;
  UPDATE yardmaster.job j SET status = 'paused', pause_note = note, paused_at = coalesce(j.paused_at, clock_timestamp()),
    paused_by = yardmaster.caller(), version = j.version + 1
  WHERE j.id = pause_replication.job_id;
  PERFORM yardmaster.record_change('update', 'replication', yardmaster.replication_label(before), before,
    yardmaster.replication_snapshot(pause_replication.job_id));
END
$$;

-- Goes on: a slot that was missed meanwhile is made up for once, at once.
CREATE OR REPLACE FUNCTION yardmaster.resume_replication(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  before := yardmaster.locked_replication(resume_replication.job_id);
  IF before ->> 'status' NOT IN ('active', 'paused') THEN
    RAISE EXCEPTION 'A replication that is % cannot be resumed.', before ->> 'status' USING ERRCODE = 'YM002';
  END IF;
  UPDATE yardmaster.job j SET status = 'active', pause_note = NULL, paused_at = NULL, paused_by = NULL,
    version = j.version + 1
  WHERE j.id = resume_replication.job_id AND j.status = 'paused';
  IF FOUND THEN
    UPDATE yardmaster.job_state s SET failures = 0, crashed = false WHERE s.job_id = resume_replication.job_id;
    PERFORM yardmaster.record_change('update', 'replication', yardmaster.replication_label(before), before,
      yardmaster.replication_snapshot(resume_replication.job_id));
    PERFORM yardmaster.wake_workers();
  END IF;
END
$$;
