CREATE OR REPLACE VIEW yardmaster.databases AS
  SELECT id, name, tags, url, secret_id IS NOT NULL AS has_stored_password, version, created_at, updated_at
  FROM yardmaster.managed_database;

-- What the audit keeps of a database: no secret, not even encrypted.
CREATE OR REPLACE FUNCTION yardmaster.database_snapshot(database_id bigint)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT jsonb_build_object('name', name, 'tags', tags, 'url', url, 'has_stored_password', secret_id IS NOT NULL)
  FROM yardmaster.managed_database WHERE id = $1
$$;

CREATE OR REPLACE FUNCTION yardmaster.add_database(
  name text, url text, tags text[] DEFAULT '{}',
  secret_id uuid DEFAULT NULL, key_id text DEFAULT NULL, ciphertext bytea DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  new_id bigint;
BEGIN
  IF secret_id IS NOT NULL THEN
    INSERT INTO yardmaster.secret (id, key_id, ciphertext) VALUES (add_database.secret_id, add_database.key_id, add_database.ciphertext);
  END IF;
  INSERT INTO yardmaster.managed_database (name, url, tags, secret_id)
  VALUES (add_database.name, add_database.url, add_database.tags, add_database.secret_id)
  RETURNING id INTO new_id;
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
  SELECT * INTO found_row FROM yardmaster.managed_database d WHERE d.name = alter_database.name FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no database "%".', name USING ERRCODE = 'YM001';
  END IF;
  before := yardmaster.database_snapshot(found_row.id);
  IF alter_database.secret_id IS NOT NULL THEN
    INSERT INTO yardmaster.secret (id, key_id, ciphertext) VALUES (alter_database.secret_id, alter_database.key_id, alter_database.ciphertext);
  END IF;
  UPDATE yardmaster.managed_database d
  SET url = coalesce(alter_database.url, d.url), tags = coalesce(alter_database.tags, d.tags),
      secret_id = CASE WHEN alter_database.url IS NULL AND alter_database.secret_id IS NULL THEN d.secret_id ELSE alter_database.secret_id END,
      version = d.version + 1, updated_at = now()
  WHERE d.id = found_row.id;
  DELETE FROM yardmaster.secret s WHERE s.id = found_row.secret_id
    AND NOT EXISTS (SELECT 1 FROM yardmaster.managed_database d WHERE d.secret_id = s.id);
  PERFORM yardmaster.record_change('update', 'database', name, before, yardmaster.database_snapshot(found_row.id));
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
    RAISE EXCEPTION 'There is no database "%".', name USING ERRCODE = 'YM001';
  END IF;
  SELECT string_agg(format('%s (job %s)', v.destination_table, v.job_id), ', ' ORDER BY v.job_id) INTO users
  FROM yardmaster.replications v WHERE found_row.name IN (v.source_database, v.destination_database);
  IF users IS NOT NULL THEN
    RAISE EXCEPTION 'Database "%" is used by %.', name, users USING ERRCODE = 'YM002';
  END IF;
  PERFORM yardmaster.record_change('delete', 'database', name, yardmaster.database_snapshot(found_row.id), NULL);
  DELETE FROM yardmaster.managed_database WHERE id = found_row.id;
  DELETE FROM yardmaster.secret WHERE id = found_row.secret_id;
END
$$;
