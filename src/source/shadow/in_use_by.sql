-- The other processes, and the prepared transactions, that have a table locked: $1 = its name.
SELECT CASE WHEN l.pid IS NOT NULL THEN format('process %s', l.pid)
            -- What joins its locks is its virtual id. One of them is that of its own id.
            ELSE (SELECT format('prepared transaction "%s"', p.gid)
                    FROM pg_locks AS x JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
                   WHERE x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
                   LIMIT 1) END AS name
  FROM pg_locks AS l
 WHERE l.locktype = 'relation'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.relation = $1::regclass
   AND l.granted
   AND l.pid IS DISTINCT FROM pg_backend_pid()
 GROUP BY name
 ORDER BY name
