-- What a job notes in every database of the demo.
CREATE SCHEMA upkeep;
CREATE TABLE upkeep.sizes (at timestamptz NOT NULL DEFAULT clock_timestamp(), bytes bigint NOT NULL);
