-- Owners of jobs are roles, by name: what becomes of a job whose owner is gone, and how it gets another.

-- Pauses jobs whose owner is no role of this server any more; what runs goes on. Replications have no owner but the schema's. Returns
-- how many.
CREATE OR REPLACE FUNCTION yardmaster.pause_orphans()
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  orphan integer;
  owner_name text;
  before jsonb;
  paused integer := 0;
BEGIN
  FOR orphan, owner_name IN
    SELECT j.id, j.owner FROM yardmaster.job j
    WHERE j.kind <> 'replication' AND j.deleted_at IS NULL AND j.status IN ('active', 'unverified')
      AND NOT EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = j.owner)
    ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
  LOOP
    before := yardmaster.job_snapshot(orphan);
    UPDATE yardmaster.job j SET status = 'paused', paused_at = clock_timestamp(), paused_by = 'yardmaster', version = j.version + 1,
      pause_note = format('Its owner, the role %s, is gone. It gets another one by: select yardmaster.change_owner(%s, ''ROLE'')', quote_ident(owner_name), orphan)
    WHERE j.id = orphan;
    PERFORM yardmaster.record_change('update', 'job', orphan::text, before, yardmaster.job_snapshot(orphan));
    paused := paused + 1;
  END LOOP;
  RETURN paused;
END
$$;

-- Gives a job to another role; for the owner of the schema. One that is paused stays so.
CREATE OR REPLACE FUNCTION yardmaster.change_owner(job_id integer, owner text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  mine yardmaster.job := yardmaster.locked_job(change_owner.job_id, 'alter');
  before jsonb := yardmaster.job_snapshot(change_owner.job_id);
BEGIN
  IF to_regrole(quote_ident(change_owner.owner)) IS NULL THEN
    RAISE EXCEPTION 'There is no role %.', quote_nullable(change_owner.owner) USING ERRCODE = 'YM001';
  END IF;
  UPDATE yardmaster.job j SET owner = change_owner.owner, version = j.version + 1 WHERE j.id = mine.id;
  PERFORM yardmaster.record_change('update', 'job', mine.id::text, before, yardmaster.job_snapshot(mine.id));
END
$$;
