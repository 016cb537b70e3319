-- The members of a tracked table: the tables through which statements can write to it. A statement fires the
-- triggers of the table that it names, and no others, so each member needs all four triggers, unchanged and
-- ENABLE ALWAYS. The rows of a partitioned table are those of its partitions. A statement on an ancestor of a
-- table, partitioned or inherited from, writes to the table as well.
-- The relatives of each tracked table are looked up by themselves, so that a query about one does not read
-- those of all.
CREATE VIEW table_export.member AS
SELECT t.id AS tracked,
       m.relation,
       m.has_rows,
       s.by_row,
       (SELECT pg_catalog.bit_or(e.events) IS NOT DISTINCT FROM 60
          FROM pg_catalog.pg_trigger AS g
         -- The bits of tgtype: 1 FOR EACH ROW, 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE (pg_trigger.h).
         CROSS JOIN LATERAL (
               SELECT g.tgtype & (4 | 8 | 16 | 32) AS events,
                      (g.tgtype & 1) <> 0 AS is_for_each_row,
                      (g.tgtype & 32) <> 0 AS is_for_truncate,
                      (g.tgtype & (8 | 16)) <> 0 AS has_old_rows,
                      (g.tgtype & (4 | 16)) <> 0 AS has_new_rows) AS e
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
                OR (NOT s.by_row
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
       )
       SELECT a.relation, a.relation = t.relation FROM ancestor AS a
        UNION ALL
       SELECT p.relation, p.is_attached FROM partition AS p) AS m (relation, has_rows)
  LEFT JOIN pg_catalog.pg_class AS c ON c.oid = m.relation
 -- A subscription fires no statement triggers except those of TRUNCATE, and only the row triggers of the
 -- partition that it writes to. It never writes through an ancestor, whose row triggers would not see the
 -- rows of the children.
 CROSS JOIN LATERAL (
       SELECT m.has_rows AND c.relkind = 'r'
          AND EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS r
                       WHERE r.srrelid = m.relation
                          OR r.srrelid IN (SELECT a.relid
                                             FROM pg_catalog.pg_partition_ancestors(m.relation) AS a)
                      ) AS by_row
       ) AS s;
COMMENT ON VIEW table_export.member IS
    'tables through which statements can write to a tracked one: itself, its partitions and its '
    'ancestors';
COMMENT ON COLUMN table_export.member.tracked IS 'the tracked table';
COMMENT ON COLUMN table_export.member.relation IS 'the table that a statement may name';
COMMENT ON COLUMN table_export.member.has_rows IS
    'whether its rows are those of the tracked table; not those of an ancestor, nor of a partition '
    'whose DETACH CONCURRENTLY has begun';
COMMENT ON COLUMN table_export.member.by_row IS
    'whether a subscription writes to it, so that its triggers must be FOR EACH ROW';
COMMENT ON COLUMN table_export.member.is_intact IS 'whether its triggers capture every change';

CREATE VIEW table_export.intact AS
SELECT tracked, pg_catalog.bool_and(is_intact) AS is_intact FROM table_export.member GROUP BY tracked;
COMMENT ON VIEW table_export.intact IS
    'whether every change of a tracked table is captured, through each table that a statement can name';
COMMENT ON COLUMN table_export.intact.tracked IS 'the tracked table';
COMMENT ON COLUMN table_export.intact.is_intact IS 'whether the triggers of all its members are in place';
