-- A name as people write it: quoted only where SQL needs it, control characters made visible (src/postgres/identifier.ts says the same).
CREATE OR REPLACE FUNCTION yardmaster.display_name(name text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN name ~ '^[a-z_][a-z0-9_$]*$' THEN name
    ELSE '"' || replace(regexp_replace(name, '[\x01-\x1f\x7f]', '\u{}', 'g'), '"', '""') || '"' END
$$;
