-- For `gateway follow` on PostgreSQL: an index on the time at which an exchange was stored. A BRIN index has a
-- few kilobytes for each gigabyte of the table, and costs a consumer nothing that can be measured. Run it once:
--
--     psql "$STORE_URL" -f follow.sql
--
-- It does not block the consumers, and cannot run inside a transaction. On a partitioned store (partitions.sql) the word
-- CONCURRENTLY must be left out, and consumers wait.
CREATE INDEX CONCURRENTLY IF NOT EXISTS exchanges_stored ON exchanges USING brin (stored)
  WITH (pages_per_range = 32, autosummarize = on);
