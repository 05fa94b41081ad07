-- Who may make, change and see jobs.

-- Whether whoever is logged in may do as a role: the role itself, its members, and the owner of this schema.
CREATE OR REPLACE FUNCTION yardmaster.may_act_as(role text)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_has_role(session_user, n.nspowner, 'MEMBER') OR session_user = role
    OR coalesce((SELECT pg_has_role(session_user, r.oid, 'MEMBER') FROM pg_roles r WHERE r.rolname = role), false)
  FROM pg_namespace n WHERE n.nspname = 'yardmaster'
$$;

-- Refuses whoever may not make jobs there. `database`: a name, or `tag:T` for each that has the tag; NULL is none. By tag, only the owner
-- of this schema may: who gets the tag later was not asked for.
CREATE OR REPLACE FUNCTION yardmaster.require_use(database text, authors boolean)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF yardmaster.may_act_as(NULL) THEN
    RETURN;
  END IF;
  IF database LIKE 'tag:%' THEN
    RAISE EXCEPTION '% may not make jobs in every database with a tag.', session_user USING ERRCODE = 'insufficient_privilege',
      HINT = 'Name a database, in a job for each; or have the owner of the schema yardmaster add it.';
  END IF;
  IF NOT EXISTS (SELECT 1 FROM yardmaster.managed_database d JOIN yardmaster.database_right w ON w.database_id = d.id
    WHERE d.name = database AND (w.may_author OR NOT authors)
      AND (w.role = session_user OR EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = w.role AND pg_has_role(session_user, r.oid, 'MEMBER')))) THEN
    RAISE EXCEPTION '% may not make %jobs in %.', session_user, CASE WHEN authors THEN 'statements of its own into ' ELSE '' END,
      coalesce('database ' || database, 'no database') USING ERRCODE = 'insufficient_privilege',
      HINT = format('The owner of the schema yardmaster grants it: select yardmaster.grant_use(%L, %L%s)', session_user, coalesce(database, 'database'),
        CASE WHEN authors THEN ', may_author => true' ELSE '' END);
  END IF;
END
$$;

-- Lets a role make jobs in a database; its members too. `may_author`: also such as are statements of their own.
CREATE OR REPLACE FUNCTION yardmaster.grant_use(role text, database text, may_author boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  known bigint := yardmaster.database_id_of(database);
BEGIN
  IF to_regrole(quote_ident(grant_use.role)) IS NULL THEN
    RAISE EXCEPTION 'There is no role %.', quote_nullable(grant_use.role) USING ERRCODE = 'YM001';
  END IF;
  INSERT INTO yardmaster.database_right AS w (database_id, role, may_author) VALUES (known, grant_use.role, grant_use.may_author)
  ON CONFLICT (database_id, role) DO UPDATE SET may_author = excluded.may_author;
  PERFORM yardmaster.renew_grants();
  PERFORM yardmaster.record_change('update', 'database', database, NULL,
    jsonb_build_object('role', grant_use.role, 'may_use', true, 'may_author', grant_use.may_author));
END
$$;

-- Jobs that the role has there go on; it can neither change them nor add others.
CREATE OR REPLACE FUNCTION yardmaster.revoke_use(role text, database text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM yardmaster.database_right w WHERE w.role = revoke_use.role AND w.database_id = yardmaster.database_id_of(database);
  IF FOUND THEN
    PERFORM yardmaster.record_change('update', 'database', database, NULL, jsonb_build_object('role', revoke_use.role, 'may_use', false));
  END IF;
END
$$;

-- What roles with the right to make jobs need of this schema, and of the schema with TimescaleDB's views where that is ours. A view asks
-- for the right to the functions in it as if they were called directly.
CREATE OR REPLACE FUNCTION yardmaster.renew_grants()
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  holder text;
  face text;
BEGIN
  FOR holder IN SELECT DISTINCT w.role FROM yardmaster.database_right w WHERE to_regrole(quote_ident(w.role)) IS NOT NULL LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA yardmaster TO %I', holder);
    EXECUTE format('GRANT SELECT ON yardmaster.jobs, yardmaster.job_stats, yardmaster.job_errors, yardmaster.job_history TO %I', holder);
    FOR face IN SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'yardmaster'::regnamespace
        AND (p.prosecdef AND p.proname IN ('add_job', 'alter_job', 'delete_job', 'request_run', 'run_state', 'pause_job', 'resume_job', 'cancel_job_runs')
          OR p.proname IN ('run_job', 'wait', 'may_act_as', 'display_name')) LOOP
      EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', face, holder);
    END LOOP;
    IF obj_description(to_regnamespace('timescaledb_information'), 'pg_namespace') = 'Made by yardmaster.install_timescaledb_names()' THEN
      EXECUTE format('GRANT USAGE ON SCHEMA timescaledb_information TO %I', holder);
      EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA timescaledb_information TO %I', holder);
    END IF;
  END LOOP;
END
$$;
