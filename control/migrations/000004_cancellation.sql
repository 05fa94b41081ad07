-- Runs that somebody cancels.

ALTER TABLE yardmaster.run
  -- Whoever carries it out looks once a second.
  ADD COLUMN cancelled_at timestamptz,
  ADD COLUMN cancelled_by text;
