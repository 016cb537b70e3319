-- The last batch of each target that was applied here, and which batches are waiting for too long. Usual is
-- what nine tenths of the last twenty batches, of ten at least, took from their export until they were
-- applied here. Twice as long is too long, and nothing is within five minutes.
SELECT d.target, r.number, r.store,
       CASE WHEN u.usual IS NOT NULL
            THEN to_char((now() - greatest(2 * u.usual, '5 minutes')) AT TIME ZONE 'UTC',
                         'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END,
       date_trunc('second', u.usual),
       CASE WHEN r.exported_at - r.applied_at > interval '1 second'
            THEN date_trunc('milliseconds', r.exported_at - r.applied_at) END,
       to_char(r.applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       r.applied_at < pg_conf_load_time()
  FROM (SELECT DISTINCT target FROM table_export.copy) AS d
 CROSS JOIN LATERAL (SELECT * FROM table_export.receipt
                      WHERE target = d.target ORDER BY number DESC LIMIT 1) AS r
 CROSS JOIN LATERAL (
       SELECT CASE WHEN count(*) >= 10 THEN percentile_disc(0.9) WITHIN GROUP (ORDER BY l.delay) END AS usual
         FROM (SELECT applied_at - exported_at AS delay FROM table_export.receipt
                WHERE target = d.target ORDER BY number DESC LIMIT 20) AS l) AS u
 ORDER BY d.target
