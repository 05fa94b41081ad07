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
    RAISE EXCEPTION 'There is no database "%".', name USING ERRCODE = 'YM001';
  END IF;
  RETURN found_id;
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
DECLARE
  new_id integer;
BEGIN
  INSERT INTO yardmaster.job (kind, site, status, created_by)
  VALUES ('replication', site, 'setting_up', coalesce(nullif(current_setting('yardmaster.actor', true), ''), session_user))
  RETURNING id INTO new_id;
  INSERT INTO yardmaster.replication (job_id, type, source_database, source_schema, source_name,
    destination_database, destination_schema, destination_name, columns, condition, build_indexes, load_data,
    post_script, sequences, truncate_cascade, swap_wait)
  VALUES (new_id, type, yardmaster.database_id_of(source_database), source_schema, source_name,
    yardmaster.database_id_of(destination_database), destination_schema, destination_name, columns, condition,
    build_indexes, load_data, post_script, sequences, truncate_cascade, swap_wait);
  PERFORM yardmaster.record_change('create', 'replication', destination_database || ':' || destination_schema || '.' || destination_name,
    NULL, yardmaster.replication_snapshot(new_id));
  RETURN new_id;
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
  PERFORM 1 FROM yardmaster.job j WHERE j.id = alter_replication.job_id AND j.deleted_at IS NULL FOR UPDATE;
  before := yardmaster.replication_snapshot(alter_replication.job_id);
  IF before IS NULL THEN
    RAISE EXCEPTION 'There is no replication with the job id %.', alter_replication.job_id USING ERRCODE = 'YM001';
  END IF;
  SELECT string_agg(key, ', ') INTO unknown FROM jsonb_object_keys(changes) AS key
  WHERE key NOT IN ('columns', 'condition', 'build_indexes', 'post_script', 'sequences', 'truncate_cascade', 'swap_wait', 'site');
  IF unknown IS NOT NULL THEN
    RAISE EXCEPTION 'A replication has no changeable option %.', unknown USING ERRCODE = 'YM003';
  END IF;
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
  PERFORM yardmaster.record_change('update', 'replication',
    (before ->> 'destination_database') || ':' || (before ->> 'destination_table'), before, yardmaster.replication_snapshot(alter_replication.job_id));
END
$$;

-- NULL for NULL and for JSON null.
CREATE OR REPLACE FUNCTION yardmaster.text_array(list jsonb)
RETURNS text[] LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN jsonb_typeof(list) = 'array' THEN
    coalesce((SELECT array_agg(element ORDER BY n) FROM jsonb_array_elements_text(list) WITH ORDINALITY AS e(element, n)), '{}') END
$$;

-- The journal of set-up and removal: setting_up → active → removing; broken needs a person.
CREATE OR REPLACE FUNCTION yardmaster.set_replication_status(job_id integer, status text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb := yardmaster.replication_snapshot(set_replication_status.job_id);
BEGIN
  UPDATE yardmaster.job j SET status = set_replication_status.status, version = j.version + 1
  WHERE j.id = set_replication_status.job_id AND j.deleted_at IS NULL AND j.status <> set_replication_status.status;
  IF FOUND THEN
    PERFORM yardmaster.record_change('update', 'replication',
      (before ->> 'destination_database') || ':' || (before ->> 'destination_table'), before,
      yardmaster.replication_snapshot(set_replication_status.job_id));
  END IF;
END
$$;

-- The last step of a removal (and of a set-up that is undone): the definition goes, the job stays for its history.
CREATE OR REPLACE FUNCTION yardmaster.remove_replication(job_id integer)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  before jsonb := yardmaster.replication_snapshot(remove_replication.job_id);
BEGIN
  DELETE FROM yardmaster.replication r WHERE r.job_id = remove_replication.job_id;
  IF FOUND THEN
    UPDATE yardmaster.job j SET deleted_at = now(), version = j.version + 1 WHERE j.id = remove_replication.job_id;
    PERFORM yardmaster.record_change('delete', 'replication',
      (before ->> 'destination_database') || ':' || (before ->> 'destination_table'), before, NULL);
  END IF;
END
$$;
