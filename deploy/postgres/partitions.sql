-- Splits `exchanges` and `scores` of a store on PostgreSQL 13 or newer into a partition for each day (UTC), so that old
-- days are dropped instead of deleted row by row. Run it once, while no consumer runs, after `gateway migrate`:
--
--     psql "$STORE_URL" -v ON_ERROR_STOP=1 -f partitions.sql
--
-- and then once a day, by cron or pg_cron, while consumers run:
--
--     SELECT gateway_add_days(7);        -- the partitions of the next days
--     SELECT gateway_drop_before(30);    -- instead of store.keep_days: days that ended 30 or more days ago
--
-- An exchange's id is a UUIDv7, which begins with the time of the call, and a score's key begins with that id. So the
-- partitions are ranges of ids: every primary key stays as it is, and an exchange that arrives twice is still stored once.
-- What is there already becomes one partition, "..._before"; what fits no day goes to "..._rest". Privileges of other
-- roles on the two tables must be granted again.
BEGIN;

-- The smallest id of a moment.
CREATE FUNCTION gateway_id_at(at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT substr(hex, 1, 8) || '-' || substr(hex, 9, 4)
  FROM (SELECT lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex) AS found
$$;

CREATE FUNCTION gateway_today() RETURNS date LANGUAGE sql STABLE AS $$ SELECT (now() AT TIME ZONE 'UTC')::date $$;

-- Adds the partitions of a day and of the given number of days after it; returns how many days were new. Rows of such a
-- day that are in "..._rest" move to it.
CREATE FUNCTION gateway_add_days(days int, today date DEFAULT gateway_today()) RETURNS int LANGUAGE plpgsql AS $$
DECLARE day date; kind text; key text; part text; low text; high text; added int := 0;
BEGIN
  FOR n IN 0 .. days LOOP
    day := today + n;
    low := gateway_id_at(day::timestamp AT TIME ZONE 'UTC');
    high := gateway_id_at((day + 1)::timestamp AT TIME ZONE 'UTC');
    CONTINUE WHEN day < gateway_first_day() OR to_regclass('exchanges_' || to_char(day, 'YYYYMMDD')) IS NOT NULL;
    FOR kind, key IN VALUES ('exchanges', 'id'), ('scores', 'exchange_id') LOOP
      part := kind || '_' || to_char(day, 'YYYYMMDD');
      EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS)', part, kind);
      EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %2$I < %4$L RETURNING *) '
                     'INSERT INTO %5$I SELECT * FROM moved', kind || '_rest', key, low, high, part);
      EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', kind, part, low, high);
    END LOOP;
    added := added + 1;
  END LOOP;
  RETURN added;
END $$;

-- Drops the days that ended at least the given number of days ago; returns how many partitions. As store.keep_days does,
-- it keeps the numbers of exchanges that belong to an experiment or have a label: these move to "..._rest", without their
-- texts.
CREATE FUNCTION gateway_drop_before(keep_days int, today date DEFAULT gateway_today()) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE suffix text; dropped int := 0;
BEGIN
  CREATE TEMPORARY TABLE shrunk_runs (run_id text) ON COMMIT DROP;
  FOR suffix IN
    SELECT name FROM (
      SELECT replace(inhrelid::regclass::text, 'exchanges_', '') AS name FROM pg_inherits
      WHERE inhparent = 'exchanges'::regclass
    ) AS parts
    WHERE CASE WHEN name = 'before' THEN gateway_first_day()
               WHEN name ~ '^[0-9]{8}$' THEN to_date(name, 'YYYYMMDD') + 1 END + keep_days <= today
    ORDER BY name
  LOOP
    EXECUTE format('CREATE TEMPORARY TABLE kept_exchanges ON COMMIT DROP AS SELECT * FROM %I e WHERE '
                   'experiment IS NOT NULL OR EXISTS (SELECT FROM labels l WHERE l.subject_id = e.id)',
                   'exchanges_' || suffix);
    EXECUTE format('CREATE TEMPORARY TABLE kept_scores ON COMMIT DROP AS SELECT * FROM %I WHERE exchange_id IN '
                   '(SELECT id FROM kept_exchanges)', 'scores_' || suffix);
    UPDATE kept_exchanges SET request = '{}', response = '', text = '', reasoning = '', refusal = '', tool_calls = '[]',
      error = NULL, reference = NULL, client_id = NULL, run = NULL, request_chunks = NULL, request_bytes = NULL, bytes = 0;
    UPDATE kept_scores SET explanation = NULL, detail = NULL, label = CASE WHEN kind = 'feedback' THEN NULL ELSE label END;
    EXECUTE format('ALTER TABLE exchanges DETACH PARTITION %I', 'exchanges_' || suffix);
    EXECUTE format('ALTER TABLE scores DETACH PARTITION %I', 'scores_' || suffix);
    INSERT INTO exchanges SELECT * FROM kept_exchanges;
    INSERT INTO scores SELECT * FROM kept_scores;
    EXECUTE format('DELETE FROM feedback f USING %I e WHERE e.id = f.resolved AND NOT EXISTS '
                   '(SELECT FROM kept_exchanges k WHERE k.id = e.id)', 'exchanges_' || suffix);
    EXECUTE format('DELETE FROM predictions p USING %I e WHERE e.id = p.exchange_id AND NOT EXISTS '
                   '(SELECT FROM kept_exchanges k WHERE k.id = e.id)', 'exchanges_' || suffix);
    EXECUTE format('DELETE FROM guard_decisions g USING %I e WHERE e.id = g.exchange_id AND NOT EXISTS '
                   '(SELECT FROM kept_exchanges k WHERE k.id = e.id)', 'exchanges_' || suffix);
    EXECUTE format('DELETE FROM turns t USING %I e WHERE e.id = t.exchange_id', 'exchanges_' || suffix);
    UPDATE predictions p SET features = '', feature_set = '' FROM kept_exchanges k WHERE k.id = p.exchange_id;
    UPDATE feedback f SET label = NULL, comment = NULL, correction = NULL FROM kept_exchanges k WHERE k.id = f.resolved;
    UPDATE pair_scores p SET explanation = NULL, detail = NULL FROM kept_exchanges k WHERE k.id IN (p.exchange_id, p.pair);
    EXECUTE format('INSERT INTO shrunk_runs SELECT DISTINCT run_id FROM %I WHERE run_id IS NOT NULL', 'exchanges_' || suffix);
    EXECUTE format('DROP TABLE %I, %I', 'exchanges_' || suffix, 'scores_' || suffix);
    DROP TABLE kept_exchanges, kept_scores;
    dropped := dropped + 1;
  END LOOP;
  -- Runs that lost calls lose the chunks that no call has any more, and those without a call are deleted.
  PERFORM FROM runs WHERE run_id IN (SELECT run_id FROM shrunk_runs) ORDER BY run_id FOR UPDATE;
  CREATE TEMPORARY TABLE used_chunks ON COMMIT DROP AS
    SELECT DISTINCT e.run_id, CAST(n AS bigint) AS chunk FROM exchanges e, jsonb_array_elements_text(CAST(e.request_chunks AS jsonb)) n
    WHERE e.request_chunks IS NOT NULL AND e.run_id IN (SELECT run_id FROM shrunk_runs);
  DELETE FROM run_chunks c WHERE c.run_id IN (SELECT run_id FROM shrunk_runs)
    AND NOT EXISTS (SELECT FROM used_chunks u WHERE u.run_id = c.run_id AND u.chunk = c.chunk);
  UPDATE runs r SET chunk_bytes = COALESCE((SELECT sum(length(c.body)) FROM run_chunks c WHERE c.run_id = r.run_id), 0)
    WHERE r.run_id IN (SELECT run_id FROM shrunk_runs);
  DELETE FROM runs r WHERE r.run_id IN (SELECT run_id FROM shrunk_runs)
    AND NOT EXISTS (SELECT FROM exchanges e WHERE e.run_id = r.run_id);
  DROP TABLE shrunk_runs, used_chunks;
  RETURN dropped;
END $$;

DO $$
DECLARE
  first date := gateway_today() + 1;
  kind text; key text; each record; statements text[] := '{}';
BEGIN
  EXECUTE format('CREATE FUNCTION gateway_first_day() RETURNS date LANGUAGE sql IMMUTABLE AS %L',
                 format('SELECT %L::date', first));
  FOR each IN SELECT viewname, definition FROM pg_views
              WHERE schemaname = current_schema() AND viewname IN ('answers', 'pairs_wide') LOOP
    statements := statements || format('CREATE VIEW %I AS %s', each.viewname, each.definition);
    EXECUTE format('DROP VIEW %I', each.viewname);
  END LOOP;
  FOR kind, key IN VALUES ('exchanges', 'id'), ('scores', 'exchange_id') LOOP
    EXECUTE format('ALTER TABLE %I RENAME TO %I', kind, kind || '_before');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS) PARTITION BY RANGE (%I)', kind, kind || '_before', key);
    FOR each IN
      SELECT c.relname AS name, i.indisprimary, pg_get_indexdef(c.oid) AS definition,
             pg_get_constraintdef((SELECT oid FROM pg_constraint WHERE conindid = c.oid)) AS of_key
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = (kind || '_before')::regclass
    LOOP
      EXECUTE format('ALTER INDEX %I RENAME TO %I', each.name, each.name || '_before');
      EXECUTE CASE WHEN each.indisprimary THEN format('ALTER TABLE %I ADD CONSTRAINT %I %s', kind, each.name, each.of_key)
                   ELSE replace(each.definition, kind || '_before USING', kind || ' USING') END;
    END LOOP;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', kind, kind || '_before',
                   gateway_id_at(first::timestamp AT TIME ZONE 'UTC'));
    EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', kind || '_rest', kind);
  END LOOP;
  FOREACH kind IN ARRAY statements LOOP
    EXECUTE kind;
  END LOOP;
END $$;

SELECT gateway_add_days(7);

COMMIT;
