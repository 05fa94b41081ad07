-- Extensions and types of the demo, alike on both sides: a type's name and make-up decide whether two are the same.
CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION citext SCHEMA public;
CREATE SCHEMA travel;
CREATE SCHEMA nature;
CREATE TYPE travel.haul AS ENUM ('short haul', 'medium haul', 'long haul');
CREATE TYPE travel.place AS (latitude double precision, longitude double precision);
CREATE DOMAIN travel.airport_code AS text CHECK (VALUE ~ '^[0-9A-Z]{3,4}$');
CREATE TYPE nature.event AS ENUM ('earthquake', 'explosion', 'quarry blast', 'other event');
CREATE TYPE nature.kilometres AS RANGE (subtype = numeric);
