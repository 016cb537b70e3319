-- Records which copies of a target are not sent any more: $1 = target, $2 = number of the batch, $3 = the
-- tables that it names, as a JSON array of arrays of schema and name. A copy that is not sent shows the
-- instant of the batch that was applied before.
WITH named AS (
    SELECT t ->> 0 AS schema, t ->> 1 AS name FROM json_array_elements($3::json) AS t
)
UPDATE table_export.copy AS c
   SET not_sent_since = CASE WHEN NOT now.is_sent THEN $2 END,
       shows = CASE WHEN NOT now.is_sent THEN (SELECT r.exported_at FROM table_export.receipt AS r
                                                WHERE r.target = $1 AND r.number < $2
                                                ORDER BY r.number DESC LIMIT 1) END
  FROM (SELECT o.relation, EXISTS (SELECT FROM named AS n WHERE n.schema = o.schema AND n.name = o.name) AS is_sent
          FROM table_export.copy AS o
         WHERE o.target = $1) AS now
 WHERE c.relation = now.relation AND now.is_sent <> (c.not_sent_since IS NULL)
