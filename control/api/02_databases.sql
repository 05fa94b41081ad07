CREATE OR REPLACE VIEW yardmaster.databases AS
  SELECT id, name, tags, url, secret_id IS NOT NULL AS has_stored_password, version, created_at, updated_at
  FROM yardmaster.managed_database;

-- What the audit keeps of a database: no secret, not even encrypted. A password that changes shows as a version.
CREATE OR REPLACE FUNCTION yardmaster.database_snapshot(database_id bigint)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object('name', name, 'tags', tags, 'url', url, 'has_stored_password', secret_id IS NOT NULL, 'version', version)
  FROM yardmaster.managed_database WHERE id = $1
$$;

-- Refuses what the program would not store: SQL callers get its checks too.
CREATE OR REPLACE FUNCTION yardmaster.require_database_parts(url text, tags text[], secret_id uuid, key_id text, ciphertext bytea)
RETURNS void LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF url ~ '://[^/]*:[^/]*@' OR url ~* '[?&](ssl)?password=' THEN
    RAISE EXCEPTION 'A URL that is given in SQL must hold no password: it would be stored as it is.'
      USING ERRCODE = 'YM003', HINT = 'Use yardmaster database add or set, which encrypt it, or an env: or file: reference.';
  END IF;
  IF url !~ '^(postgres(ql)?://[^/@:]+@[^/@]*/.+|env:[A-Za-z_][A-Za-z0-9_]*|file:/.+)$' OR url ~ '^env:YARDMASTER_' THEN
    RAISE EXCEPTION 'The URL of a database is postgresql://user@host:port/database, env:NAME (not one of YARDMASTER_…) or file:/PATH.'
      USING ERRCODE = 'YM003';
  END IF;
  IF array_position(tags, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'A tag is NULL.' USING ERRCODE = 'YM003';
  END IF;
  IF num_nulls(secret_id, key_id, ciphertext) NOT IN (0, 3) THEN
    RAISE EXCEPTION 'secret_id, key_id and ciphertext belong together.' USING ERRCODE = 'YM003',
      HINT = 'Only the program can make them; leave them out.';
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.add_database(
  name text, url text, tags text[] DEFAULT '{}',
  secret_id uuid DEFAULT NULL, key_id text DEFAULT NULL, ciphertext bytea DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  IF add_database.name IS NULL OR add_database.name !~ '^[a-z0-9][a-z0-9_.-]{0,62}$' THEN
    RAISE EXCEPTION 'The name of a database is made of lower-case letters, digits, dot, dash and underscore, at most 63; % is none.',
      quote_nullable(add_database.name) USING ERRCODE = 'YM003';
  END IF;
  IF add_database.url IS NULL OR add_database.tags IS NULL THEN
    RAISE EXCEPTION 'Database "%" needs a url, and tags that are not NULL.', add_database.name USING ERRCODE = 'YM003';
  END IF;
  PERFORM yardmaster.require_database_parts(add_database.url, add_database.tags, add_database.secret_id, add_database.key_id,
    add_database.ciphertext);
  IF add_database.secret_id IS NOT NULL THEN
    INSERT INTO yardmaster.secret (id, key_id, ciphertext) VALUES (add_database.secret_id, add_database.key_id, add_database.ciphertext);
  END IF;
  INSERT INTO yardmaster.managed_database (name, url, tags, secret_id)
  VALUES (add_database.name, add_database.url, add_database.tags, add_database.secret_id)
  ON CONFLICT (name) DO NOTHING
  RETURNING id INTO new_id;
  IF new_id IS NULL THEN
    RAISE EXCEPTION 'A database "%" is registered already.', add_database.name USING ERRCODE = 'unique_violation';
  END IF;
  PERFORM yardmaster.record_change('create', 'database', add_database.name, NULL, yardmaster.database_snapshot(new_id));
  RETURN new_id;
END
$$;

-- NULL keeps what is there. A new URL replaces the stored password: without a new one there is none.
CREATE OR REPLACE FUNCTION yardmaster.alter_database(
  name text, url text DEFAULT NULL, tags text[] DEFAULT NULL,
  secret_id uuid DEFAULT NULL, key_id text DEFAULT NULL, ciphertext bytea DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  found_row yardmaster.managed_database;
  before jsonb;
BEGIN
  -- Its key stays: whoever makes a job in it meanwhile holds the job, which a change of tags wants next.
  SELECT * INTO found_row FROM yardmaster.managed_database d WHERE d.name = alter_database.name FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no database %.', coalesce('"' || alter_database.name || '"', 'NULL') USING ERRCODE = 'YM001';
  END IF;
  IF alter_database.secret_id IS NOT NULL AND alter_database.url IS NULL THEN
    RAISE EXCEPTION 'A password is stored for the URL that it is given with.' USING ERRCODE = 'YM003';
  END IF;
  PERFORM yardmaster.require_database_parts(coalesce(alter_database.url, found_row.url), alter_database.tags,
    alter_database.secret_id, alter_database.key_id, alter_database.ciphertext);
  before := yardmaster.database_snapshot(found_row.id);
  IF alter_database.secret_id IS NOT NULL THEN
    INSERT INTO yardmaster.secret (id, key_id, ciphertext) VALUES (alter_database.secret_id, alter_database.key_id, alter_database.ciphertext);
  END IF;
  UPDATE yardmaster.managed_database d
  SET url = coalesce(alter_database.url, d.url), tags = coalesce(alter_database.tags, d.tags),
      secret_id = CASE WHEN alter_database.url IS NULL THEN d.secret_id ELSE alter_database.secret_id END,
      version = d.version + 1, updated_at = now()
  WHERE d.id = found_row.id;
  DELETE FROM yardmaster.secret s WHERE s.id = found_row.secret_id
    AND NOT EXISTS (SELECT 1 FROM yardmaster.managed_database d WHERE d.secret_id = s.id);
  PERFORM yardmaster.record_change('update', 'database', found_row.name, before, yardmaster.database_snapshot(found_row.id));
END
$$;

CREATE OR REPLACE FUNCTION yardmaster.remove_database(name text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_row yardmaster.managed_database;
  users text;
BEGIN
  SELECT * INTO found_row FROM yardmaster.managed_database d WHERE d.name = remove_database.name FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no database %.', coalesce('"' || remove_database.name || '"', 'NULL') USING ERRCODE = 'YM001';
  END IF;
  SELECT string_agg(format('%s (job %s)', u.object, u.job_id), ', ' ORDER BY u.job_id) INTO users FROM (
    SELECT v.destination_table AS object, v.job_id FROM yardmaster.replications v WHERE found_row.name IN (v.source_database, v.destination_database)
    UNION ALL
    SELECT yardmaster.action_label(j.id, j.name, a.proc_schema, a.proc_name, a.task), j.id
    FROM yardmaster.job_action a JOIN yardmaster.job j ON j.id = a.job_id WHERE a.database_id = found_row.id) u;
  IF users IS NOT NULL THEN
    RAISE EXCEPTION 'Database "%" is used by %.', name, users USING ERRCODE = 'YM002';
  END IF;
  PERFORM yardmaster.record_change('delete', 'database', name, yardmaster.database_snapshot(found_row.id), NULL);
  DELETE FROM yardmaster.managed_database WHERE id = found_row.id;
  DELETE FROM yardmaster.secret WHERE id = found_row.secret_id;
END
$$;
