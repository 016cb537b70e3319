-- The targets whose next export sends tables in full that their last batch named, how many, and the names of
-- the first five. A target without a position was reset as a whole.
SELECT m.target, count(*), to_json((array_agg(m.relation::text ORDER BY m.relation::text))[1:5])
  FROM (SELECT t.name AS target, k.relation
          FROM table_export.target AS t
         CROSS JOIN jsonb_array_elements_text(t.tables) AS e (id)
          JOIN table_export.tracked AS k ON k.id = e.id::int4
          JOIN pg_class AS c ON c.oid = k.relation
          LEFT JOIN table_export.target_table AS r ON r.target = t.name AND r.tracked = k.id
         WHERE t.position IS NOT NULL AND r.target IS NULL
           AND (NOT EXISTS (SELECT FROM table_export.restriction AS o WHERE o.target = t.name)
                OR EXISTS (SELECT FROM table_export.restriction AS o
                            WHERE o.target = t.name AND o.relation = k.relation))) AS m
 GROUP BY m.target
 ORDER BY m.target
