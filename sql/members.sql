-- The members of a tracked table: the tables through which statements can write to it. A statement fires the
-- triggers of the table that it names, and no others, so each member needs all four triggers, unchanged and
-- ENABLE ALWAYS. The rows of a partitioned table are those of its partitions. A statement on an ancestor of a
-- table, partitioned or inherited from, writes to the table as well.
-- PostgreSQL collects no transition tables from foreign tables: a statement on a table above one fails if it
-- has a trigger with transition tables. So below such a table rows are captured by row triggers, and tables
-- without rows have triggers that see none. Such triggers tell afterwards that rows are captured so.
-- The relatives of each tracked table are looked up by themselves, so that a query about one does not read
-- those of all.
CREATE VIEW table_export.above_foreign_table AS
  WITH RECURSIVE above (relation) AS (
       SELECT i.inhparent
         FROM pg_catalog.pg_foreign_table AS f JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = f.ftrelid
        UNION
       SELECT i.inhparent FROM above AS a JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = a.relation)
SELECT relation FROM above;
COMMENT ON VIEW table_export.above_foreign_table IS
    'tables that have foreign tables among their partitions or children, at any depth';
COMMENT ON COLUMN table_export.above_foreign_table.relation IS 'the table';

CREATE VIEW table_export.member AS
SELECT t.id AS tracked,
       m.relation,
       m.has_rows,
       s.captures,
       -- Without relhastriggers PostgreSQL fires none (relcache.c).
       (SELECT k.relhastriggers FROM pg_catalog.pg_class AS k WHERE k.oid = m.relation)
       AND (SELECT pg_catalog.bit_or(e.events) IS NOT DISTINCT FROM 60
          FROM pg_catalog.pg_trigger AS g
         -- The bits of tgtype: 1 FOR EACH ROW, 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE (pg_trigger.h).
         CROSS JOIN LATERAL (
               SELECT g.tgtype & (4 | 8 | 16 | 32) AS events,
                      (g.tgtype & 1) <> 0 AS is_for_each_row,
                      (g.tgtype & 32) <> 0 AS is_for_truncate,
                      (g.tgtype & (8 | 16)) <> 0 AS has_old_rows,
                      (g.tgtype & (4 | 16)) <> 0 AS has_new_rows,
                      g.tgoldtable IS NOT NULL OR g.tgnewtable IS NOT NULL AS has_transition_tables) AS e
         WHERE g.tgrelid = m.relation
           AND g.tgenabled = 'A'
           AND g.tgqual IS NULL
           AND g.tgattr = ''
           AND g.tgfoid = 'table_export.capture()'::pg_catalog.regprocedure
           AND g.tgargs =
               pg_catalog.convert_to(t.id::pg_catalog.text, 'UTF8') || '\x00'::pg_catalog.bytea
           -- Row triggers see the rows of the table itself only. Statement triggers see rows in transition
           -- tables.
           AND (e.is_for_truncate
                OR (e.is_for_each_row AND m.has_rows)
                OR (s.captures = 'truncate' AND NOT e.has_transition_tables)
                OR (s.captures = 'statements'
                    AND (g.tgoldtable IS NOT NULL OR NOT e.has_old_rows)
                    AND (g.tgnewtable IS NOT NULL OR NOT e.has_new_rows)))) AS is_intact
  FROM table_export.tracked AS t
 CROSS JOIN LATERAL (
       WITH RECURSIVE ancestor (relation) AS (
           SELECT t.relation::pg_catalog.oid
            UNION
           SELECT i.inhparent
             FROM ancestor AS a JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = a.relation
       ), partition (relation, is_attached) AS (
           SELECT i.inhrelid, NOT i.inhdetachpending
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_inherits AS i ON i.inhparent = c.oid
            WHERE c.oid = t.relation AND c.relkind = 'p'
            UNION
           SELECT i.inhrelid, p.is_attached AND NOT i.inhdetachpending
             FROM partition AS p JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.relation
       ), foreign_table (is_below) AS (
           SELECT pg_catalog.bool_or(
                      a.relation IN (SELECT f.relation FROM table_export.above_foreign_table AS f)
                      -- Not EXISTS, for which the triggers of all tables could be read.
                      OR (SELECT pg_catalog.count(*) > 0 FROM pg_catalog.pg_trigger AS g
                           WHERE g.tgrelid = a.relation
                             AND g.tgtype & (1 | 32) = 0
                             AND g.tgoldtable IS NULL AND g.tgnewtable IS NULL
                             AND g.tgfoid = 'table_export.capture()'::pg_catalog.regprocedure
                             AND g.tgargs = pg_catalog.convert_to(t.id::pg_catalog.text, 'UTF8')
                                            || '\x00'::pg_catalog.bytea))
             FROM ancestor AS a
       )
       SELECT a.relation, a.relation = t.relation, f.is_below FROM ancestor AS a, foreign_table AS f
        UNION ALL
       SELECT p.relation, p.is_attached, f.is_below FROM partition AS p, foreign_table AS f
       ) AS m (relation, has_rows, is_near_foreign_table)
  LEFT JOIN pg_catalog.pg_class AS c ON c.oid = m.relation
 -- A subscription fires no statement triggers except those of TRUNCATE, and only the row triggers of the
 -- partition that it writes to. It never writes through an ancestor, whose row triggers would not see the
 -- rows of the children.
 CROSS JOIN LATERAL (
       SELECT CASE WHEN m.has_rows AND c.relkind = 'r'
                    AND (m.is_near_foreign_table
                         OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS r
                                     WHERE r.srrelid = m.relation
                                        OR r.srrelid IN (SELECT a.relid
                                                           FROM pg_catalog.pg_partition_ancestors(m.relation)
                                                                AS a)))
                   THEN 'rows'
                   WHEN m.is_near_foreign_table THEN 'truncate'
                   ELSE 'statements' END AS captures
       ) AS s;
COMMENT ON VIEW table_export.member IS
    'tables through which statements can write to a tracked one: itself, its partitions and its '
    'ancestors';
COMMENT ON COLUMN table_export.member.tracked IS 'the tracked table';
COMMENT ON COLUMN table_export.member.relation IS 'the table that a statement may name';
COMMENT ON COLUMN table_export.member.has_rows IS
    'whether its rows are those of the tracked table; not those of an ancestor, nor of a partition '
    'whose DETACH CONCURRENTLY has begun';
COMMENT ON COLUMN table_export.member.captures IS
    'what its triggers must capture: statements, by transition tables; rows, because a subscription '
    'writes to it, or a foreign table has an ancestor of it; truncate, where the tables below capture rows';
COMMENT ON COLUMN table_export.member.is_intact IS 'whether its triggers capture every change';

CREATE VIEW table_export.intact AS
SELECT tracked, pg_catalog.bool_and(is_intact) AS is_intact FROM table_export.member GROUP BY tracked;
COMMENT ON VIEW table_export.intact IS
    'whether every change of a tracked table is captured, through each table that a statement can name';
COMMENT ON COLUMN table_export.intact.tracked IS 'the tracked table';
COMMENT ON COLUMN table_export.intact.is_intact IS 'whether the triggers of all its members are in place';
