CREATE OR REPLACE VIEW yardmaster.replications AS
  SELECT r.job_id, r.id AS replication_id, r.type,
    s.name AS source_database, r.source_schema, r.source_name,
    yardmaster.display_name(r.source_schema) || '.' || yardmaster.display_name(r.source_name) AS source_table,
    d.name AS destination_database, r.destination_schema, r.destination_name,
    yardmaster.display_name(r.destination_schema) || '.' || yardmaster.display_name(r.destination_name) AS destination_table,
    r.columns, r.condition, r.build_indexes, r.load_data, r.post_script, r.sequences, r.truncate_cascade, r.swap_wait,
    j.site, j.status, j.version, j.created_at, j.created_by,
    s.id AS source_database_id, d.id AS destination_database_id
  FROM yardmaster.replication r
  JOIN yardmaster.job j ON j.id = r.job_id
  JOIN yardmaster.managed_database s ON s.id = r.source_database
  JOIN yardmaster.managed_database d ON d.id = r.destination_database;

CREATE OR REPLACE FUNCTION yardmaster.replication_snapshot(job_id integer)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT to_jsonb(v) - 'source_database_id' - 'destination_database_id' FROM yardmaster.replications v WHERE v.job_id = $1
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

-- Registers a replication as `setting_up`; the program then makes its objects and pulls the data.
CREATE OR REPLACE FUNCTION yardmaster.add_replication(
  type text,
  source_database text, source_schema text, source_name text,
  destination_database text, destination_schema text, destination_name text,
  columns text[] DEFAULT NULL, condition text DEFAULT NULL,
  build_indexes boolean DEFAULT true, load_data boolean DEFAULT true,
  post_script text[] DEFAULT '{}', sequences text[] DEFAULT '{}',
  truncate_cascade boolean DEFAULT false, swap_wait interval DEFAULT interval '1 minute',
  site text DEFAULT NULL)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  new_id integer;
  after jsonb;
BEGIN
  IF type IS NULL OR type NOT IN ('snapshot', 'table') THEN
    RAISE EXCEPTION 'The types of replication are snapshot and table; % is none.', quote_nullable(type) USING ERRCODE = 'YM003';
  END IF;
  PERFORM yardmaster.require_name('source_schema', source_schema), yardmaster.require_name('source_name', source_name),
    yardmaster.require_name('destination_schema', destination_schema), yardmaster.require_name('destination_name', destination_name);
  -- Until this transaction ends, nobody removes them.
  PERFORM 1 FROM yardmaster.managed_database d WHERE d.name IN (source_database, destination_database) ORDER BY d.id FOR KEY SHARE;
  PERFORM yardmaster.require_options(jsonb_build_object('columns', columns, 'condition', condition, 'build_indexes', build_indexes,
    'load_data', load_data, 'post_script', post_script, 'sequences', sequences, 'truncate_cascade', truncate_cascade,
    'swap_wait', swap_wait::text, 'site', site));
  INSERT INTO yardmaster.job (kind, site, status, created_by)
  VALUES ('replication', site, 'setting_up', coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user))
  RETURNING id INTO new_id;
  INSERT INTO yardmaster.replication (job_id, type, source_database, source_schema, source_name,
    destination_database, destination_schema, destination_name, columns, condition, build_indexes, load_data,
    post_script, sequences, truncate_cascade, swap_wait)
  VALUES (new_id, type, yardmaster.database_id_of(source_database), source_schema, source_name,
    yardmaster.database_id_of(destination_database), destination_schema, destination_name, columns, condition,
    build_indexes, load_data, post_script, sequences, truncate_cascade, swap_wait)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Another replication has the destination %:%.% already.', destination_database,
      yardmaster.display_name(destination_schema), yardmaster.display_name(destination_name) USING ERRCODE = 'unique_violation';
  END IF;
  after := yardmaster.replication_snapshot(new_id);
  PERFORM yardmaster.record_change('create', 'replication', yardmaster.replication_label(after), NULL, after);
  RETURN new_id;
END
$$;

-- Refuses a value that is not of its option's type. NULL is a value where it means "all" or "none".
CREATE OR REPLACE FUNCTION yardmaster.require_options(options jsonb)
RETURNS void LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  option record;
  fits boolean;
BEGIN
  FOR option IN
    SELECT o.key, o.value, jsonb_typeof(o.value) AS type, o.value #>> '{}' AS text,
      CASE WHEN o.key IN ('columns', 'post_script', 'sequences') THEN 'a list of texts'
        WHEN o.key IN ('build_indexes', 'load_data', 'truncate_cascade') THEN 'true or false'
        WHEN o.key = 'swap_wait' THEN 'an interval that is not negative' ELSE 'a text' END AS wanted
    FROM jsonb_each(options) AS o
  LOOP
    CONTINUE WHEN option.type = 'null' AND option.key IN ('columns', 'condition', 'site');
    fits := CASE option.wanted
      WHEN 'a list of texts' THEN option.type = 'array' AND NOT jsonb_path_exists(option.value, 'strict $[*] ? (@.type() != "string")')
      WHEN 'true or false' THEN option.type = 'boolean'
      ELSE option.type = 'string' END;
    IF fits AND option.key = 'swap_wait' THEN
      BEGIN
        fits := option.text::interval >= interval '0' AND isfinite(option.text::interval);
      EXCEPTION WHEN data_exception THEN
        fits := false;
      END;
    END IF;
    IF NOT fits THEN
      RAISE EXCEPTION 'The option % must be %, not %.', option.key, option.wanted, option.value USING ERRCODE = 'YM003';
    END IF;
    IF option.key = 'columns' AND option.value = '[]' THEN
      RAISE EXCEPTION 'The option columns names no column.' USING ERRCODE = 'YM003', HINT = 'NULL means all columns.';
    END IF;
  END LOOP;
END
$$;

-- Changes options; a key that is absent from `changes` stays. Keys are the columns of the view `replications`.
CREATE OR REPLACE FUNCTION yardmaster.alter_replication(job_id integer, changes jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
  unknown text;
BEGIN
  IF changes IS NULL OR jsonb_typeof(changes) <> 'object' THEN
    RAISE EXCEPTION 'The changes of a replication are a JSON object of options.' USING ERRCODE = 'YM003',
      HINT = 'For example: select yardmaster.alter_replication(1000, ''{"columns": ["id", "total"]}'')';
  END IF;
  PERFORM 1 FROM yardmaster.job j WHERE j.id = alter_replication.job_id AND j.deleted_at IS NULL FOR UPDATE;
  before := yardmaster.replication_snapshot(alter_replication.job_id);
  IF before IS NULL THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', coalesce(alter_replication.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  SELECT string_agg(key, ', ') INTO unknown FROM jsonb_object_keys(changes) AS key
  WHERE key NOT IN ('columns', 'condition', 'build_indexes', 'post_script', 'sequences', 'truncate_cascade', 'swap_wait', 'site');
  IF unknown IS NOT NULL THEN
    RAISE EXCEPTION 'A replication has no changeable option %.', unknown USING ERRCODE = 'YM003',
      HINT = 'They are columns, condition, build_indexes, post_script, sequences, truncate_cascade, swap_wait and site.';
  END IF;
  PERFORM yardmaster.require_options(changes);
  UPDATE yardmaster.replication r SET
    columns = CASE WHEN changes ? 'columns' THEN yardmaster.text_array(changes -> 'columns') ELSE r.columns END,
    condition = CASE WHEN changes ? 'condition' THEN changes ->> 'condition' ELSE r.condition END,
    build_indexes = coalesce((changes ->> 'build_indexes')::boolean, r.build_indexes),
    post_script = coalesce(yardmaster.text_array(changes -> 'post_script'), r.post_script),
    sequences = coalesce(yardmaster.text_array(changes -> 'sequences'), r.sequences),
    truncate_cascade = coalesce((changes ->> 'truncate_cascade')::boolean, r.truncate_cascade),
    swap_wait = coalesce((changes ->> 'swap_wait')::interval, r.swap_wait)
  WHERE r.job_id = alter_replication.job_id;
  UPDATE yardmaster.job j SET
    site = CASE WHEN changes ? 'site' THEN changes ->> 'site' ELSE j.site END,
    version = j.version + 1
  WHERE j.id = alter_replication.job_id;
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

-- The journal of set-up and removal: setting_up → active → removing; broken needs a person. Nothing for a removed one.
CREATE OR REPLACE FUNCTION yardmaster.set_replication_status(job_id integer, status text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb;
BEGIN
  IF set_replication_status.status IS NULL OR set_replication_status.status NOT IN ('setting_up', 'active', 'broken', 'removing') THEN
    RAISE EXCEPTION 'A replication is setting_up, active, broken or removing, never %.', quote_nullable(set_replication_status.status)
      USING ERRCODE = 'YM003';
  END IF;
  PERFORM 1 FROM yardmaster.job j WHERE j.id = set_replication_status.job_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', coalesce(set_replication_status.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  before := yardmaster.replication_snapshot(set_replication_status.job_id);
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
  PERFORM 1 FROM yardmaster.job j WHERE j.id = remove_replication.job_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', coalesce(remove_replication.job_id::text, 'NULL') USING ERRCODE = 'YM001';
  END IF;
  before := yardmaster.replication_snapshot(remove_replication.job_id);
  DELETE FROM yardmaster.replication r WHERE r.job_id = remove_replication.job_id;
  IF FOUND THEN
    UPDATE yardmaster.job j SET deleted_at = now(), version = j.version + 1 WHERE j.id = remove_replication.job_id;
    PERFORM yardmaster.record_change('delete', 'replication', yardmaster.replication_label(before), before, NULL);
  END IF;
END
$$;
