-- What an older release left undone, once its tables are as they are now.

DO $$ BEGIN PERFORM yardmaster.name_states(s.job_id) FROM yardmaster.job_state s WHERE s.object IS NULL GROUP BY s.job_id; END $$;
