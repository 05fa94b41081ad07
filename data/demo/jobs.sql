-- What the demo's jobs call in the warehouse, and what they make there.
CREATE SCHEMA marts;

-- Follows two copies: orders and payments.
CREATE TABLE marts.revenue (status text PRIMARY KEY, orders bigint NOT NULL, ordered numeric NOT NULL, paid numeric NOT NULL);
CREATE VIEW marts.revenue_of_copies AS
  SELECT t.status, count(*) AS orders, sum(t.total) AS ordered, coalesce(sum(p.paid), 0) AS paid
  FROM shop.order_totals AS t LEFT JOIN (SELECT "order", sum(amount) AS paid FROM shop.payments GROUP BY 1) AS p ON p."order" = t.number
  GROUP BY t.status;
CREATE PROCEDURE marts.refresh_marts(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM marts.revenue;
  INSERT INTO marts.revenue SELECT * FROM marts.revenue_of_copies;
  COMMIT;
END
$$;

-- Each call of sum_up_flights, by its own word. `met`: the session of an earlier call that had not ended and was still there.
CREATE TABLE marts.calls (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pid integer NOT NULL,
  session_began timestamptz NOT NULL,
  began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  met integer
);
CREATE TABLE marts.flights_by_distance (miles integer PRIMARY KEY, flights bigint NOT NULL, mean_delay numeric);
-- Says what it does, and keeps what it has done so far.
CREATE PROCEDURE marts.sum_up_flights(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
  call bigint;
  band integer;
  counted bigint;
  mean numeric;
BEGIN
  INSERT INTO marts.calls (pid, session_began, met)
  SELECT a.pid, a.backend_start, (SELECT c.pid FROM marts.calls AS c
    JOIN pg_stat_activity AS o ON o.pid = c.pid AND o.backend_start = c.session_began AND o.pid <> a.pid WHERE c.ended_at IS NULL LIMIT 1)
  FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid()
  RETURNING id INTO call;
  COMMIT;
  FOR band IN 0..3 LOOP
    RAISE NOTICE 'yardmaster: step flights of % miles and more', band * 500;
    SELECT count(*), avg(f.delay) INTO counted, mean FROM travel.flights AS f
    WHERE f.distance >= band * 500 AND (f.distance < (band + 1) * 500 OR band = 3);
    INSERT INTO marts.flights_by_distance AS b VALUES (band * 500, counted, mean)
    ON CONFLICT (miles) DO UPDATE SET flights = excluded.flights, mean_delay = excluded.mean_delay;
    RAISE NOTICE 'yardmaster: progress % rows', counted;
    COMMIT;
  END LOOP;
  UPDATE marts.calls SET ended_at = clock_timestamp() WHERE id = call;
  DELETE FROM marts.calls WHERE id < call - 1000;
END
$$;

-- Fails until its configuration says otherwise.
CREATE PROCEDURE marts.send_invoices(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
BEGIN
  IF config ->> 'gateway' IS DISTINCT FROM 'up' THEN
    RAISE EXCEPTION 'the mail gateway does not answer';
  END IF;
END
$$;
