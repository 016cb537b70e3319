-- The views for users. Roles with the privileges of pg_monitor may read them.

CREATE VIEW tx_tracked AS
SELECT t.relation AS table_name,
       pg_catalog.array_to_string(t.key_names, ', ') AS key,
       s.changes,
       pg_catalog.pg_size_pretty(s.bytes) AS shadow_size,
       i.is_intact AS triggers_intact,
       pg_catalog.date_trunc('second', t.tracked_at) AS tracked_at
  FROM table_export.tracked AS t
  JOIN table_export.intact AS i ON i.tracked = t.id
 CROSS JOIN LATERAL table_export.shadow_size(t.id) AS s
 ORDER BY t.relation::pg_catalog.text;
COMMENT ON VIEW tx_tracked IS
    'tracked tables: changes in the shadow, its size, whether the triggers are intact';
COMMENT ON COLUMN tx_tracked.table_name IS 'the tracked table';
COMMENT ON COLUMN tx_tracked.key IS 'the columns of its key';
COMMENT ON COLUMN tx_tracked.changes IS
    'changes in the shadow, exported or not; a later export removes those that all targets have received';
COMMENT ON COLUMN tx_tracked.shadow_size IS 'size of the shadow on disk';
COMMENT ON COLUMN tx_tracked.triggers_intact IS 'false: changes are not captured, and exports are refused';
COMMENT ON COLUMN tx_tracked.tracked_at IS 'when tracking began';

CREATE VIEW tx_targets AS
SELECT t.name AS target,
       NULLIF(t.number, 0) AS last_batch,
       pg_catalog.date_trunc('second', t.exported_at) AS exported_at,
       pg_catalog.date_trunc('second', pg_catalog.now() - t.exported_at) AS age,
       p.changes AS pending,
       pg_catalog.pg_size_pretty(p.bytes) AS held_back,
       t.position
  FROM table_export.target AS t
  LEFT JOIN LATERAL table_export.pending_changes(t.name) AS p ON true
 ORDER BY t.name;
COMMENT ON VIEW tx_targets IS 'targets: the last batch of each, its age, and what waits for the next';
COMMENT ON COLUMN tx_targets.target IS 'the target';
COMMENT ON COLUMN tx_targets.last_batch IS 'number of the last batch';
COMMENT ON COLUMN tx_targets.exported_at IS 'when it was exported';
COMMENT ON COLUMN tx_targets.age IS 'how long ago that was';
COMMENT ON COLUMN tx_targets.pending IS 'changes that the next export finds; null: the next export is full';
COMMENT ON COLUMN tx_targets.held_back IS
    'size of the segments of shadows that are retained for it; beyond pg_table_export.shadow_limit it '
    'is released, and its next export is full';
COMMENT ON COLUMN tx_targets.position IS 'the snapshot up to which the target has been exported';

CREATE VIEW tx_restrictions AS
SELECT target, relation AS table_name, view AS seen_through
  FROM table_export.restriction
 ORDER BY target, relation::pg_catalog.text;
COMMENT ON VIEW tx_restrictions IS 'targets that do not get all tracked tables, and what each gets';
COMMENT ON COLUMN tx_restrictions.target IS 'the target';
COMMENT ON COLUMN tx_restrictions.table_name IS 'a table that it gets';
COMMENT ON COLUMN tx_restrictions.seen_through IS
    'the view that the table is exported through; null: it is exported whole';

CREATE VIEW tx_batches AS
SELECT target, number AS batch, kind, tables, ids, records, pg_catalog.pg_size_pretty(bytes) AS size,
       pg_catalog.date_trunc('second', exported_at) AS exported_at, id, store
  FROM table_export.batch
 ORDER BY target, number DESC;
COMMENT ON VIEW tx_batches IS 'batches that this database has published, the latest of each target first';
COMMENT ON COLUMN tx_batches.target IS 'the target';
COMMENT ON COLUMN tx_batches.batch IS 'number of the batch';
COMMENT ON COLUMN tx_batches.kind IS
    'full: stands by itself; baseline: stands by itself where the rows are already; changes: needs the batch '
    'before it';
COMMENT ON COLUMN tx_batches.tables IS 'tables in the batch';
COMMENT ON COLUMN tx_batches.ids IS 'keys that changed';
COMMENT ON COLUMN tx_batches.records IS 'records in the batch';
COMMENT ON COLUMN tx_batches.size IS 'size of the files';
COMMENT ON COLUMN tx_batches.exported_at IS 'when it was exported';
COMMENT ON COLUMN tx_batches.id IS 'identity of the batch';
COMMENT ON COLUMN tx_batches.store IS 'the store it was published in';

CREATE VIEW tx_receipts AS
SELECT target, number AS batch, kind, tables, deleted, updated, inserted,
    pg_catalog.pg_size_pretty(bytes) AS size,
       exported_at, applied_at, applied_at - exported_at AS behind, id
  FROM table_export.receipt
 ORDER BY target, number DESC;
COMMENT ON VIEW tx_receipts IS 'batches that this database has applied, the latest of each target first';
COMMENT ON COLUMN tx_receipts.target IS 'the target whose batch it is';
COMMENT ON COLUMN tx_receipts.batch IS 'number of the batch';
COMMENT ON COLUMN tx_receipts.kind IS 'full, baseline or changes';
COMMENT ON COLUMN tx_receipts.tables IS 'tables in the batch';
COMMENT ON COLUMN tx_receipts.deleted IS 'rows deleted here';
COMMENT ON COLUMN tx_receipts.updated IS 'rows updated here';
COMMENT ON COLUMN tx_receipts.inserted IS 'rows inserted here';
COMMENT ON COLUMN tx_receipts.size IS 'size of the files';
COMMENT ON COLUMN tx_receipts.exported_at IS 'the instant of the source that the batch shows';
COMMENT ON COLUMN tx_receipts.applied_at IS 'when it was applied here';
COMMENT ON COLUMN tx_receipts.behind IS 'the time from the one to the other';
COMMENT ON COLUMN tx_receipts.id IS 'identity of the batch';

CREATE VIEW tx_freshness AS
SELECT c.relation AS table_name, c.target, s.shows, pg_catalog.now() - s.shows AS age,
       r.number AS last_batch, c.number AS last_change, t.pending, c.not_sent_since,
       c.adopted, v.verified_at, v.number AS verified_batch,
       CASE WHEN NOT v.equal THEN false WHEN v.equal AND v.complete THEN true END AS verified
  FROM (SELECT DISTINCT target FROM table_export.copy) AS d
 CROSS JOIN LATERAL (SELECT d.target, table_export.pending_batches(d.target) AS pending OFFSET 0) AS t
  JOIN table_export.copy AS c ON c.target = t.target
  JOIN pg_catalog.pg_class AS k ON k.oid = c.relation
  LEFT JOIN LATERAL (SELECT number, exported_at FROM table_export.receipt
                      WHERE target = c.target ORDER BY number DESC LIMIT 1) AS r ON true
  LEFT JOIN table_export.proof AS v ON v.target = c.target AND v.relation = c.relation
 CROSS JOIN LATERAL (SELECT CASE WHEN c.since IS NULL THEN NULL
                                 WHEN c.not_sent_since IS NULL THEN r.exported_at
                                 ELSE c.shows END AS shows) AS s
 ORDER BY c.target, c.relation::pg_catalog.text;
COMMENT ON VIEW tx_freshness IS
    'tables that this database has imported: the instant of the source that each shows, and what '
    'waits in the store';
COMMENT ON COLUMN tx_freshness.table_name IS 'the table';
COMMENT ON COLUMN tx_freshness.target IS 'the target whose batches are applied to it';
COMMENT ON COLUMN tx_freshness.shows IS
    'the instant of the source that it shows; null: it needs a full part first, or the instant is not '
    'known';
COMMENT ON COLUMN tx_freshness.age IS 'how long ago that was';
COMMENT ON COLUMN tx_freshness.last_batch IS 'number of the last batch of the target that was applied';
COMMENT ON COLUMN tx_freshness.last_change IS 'number of the last batch that held something of the table';
COMMENT ON COLUMN tx_freshness.pending IS
    'batches in the store that have not been applied; null: the store cannot be read';
COMMENT ON COLUMN tx_freshness.not_sent_since IS
    'number of the first batch that does not have the table any more: it was untracked, dropped or renamed, '
    'or the target is restricted to others; null: it is sent';
COMMENT ON COLUMN tx_freshness.adopted IS
    'it was adopted by a baseline: rows that have not changed since are believed, until a full part has come';
COMMENT ON COLUMN tx_freshness.verified_at IS 'when tx_verify has compared it last; null: never';
COMMENT ON COLUMN tx_freshness.verified_batch IS 'the batch that it was compared with';
COMMENT ON COLUMN tx_freshness.verified IS
    'true: it was equal; false: it differed; null: not everything was compared, and no difference was found';

GRANT SELECT ON tx_tracked, tx_targets, tx_restrictions, tx_batches, tx_receipts, tx_freshness TO pg_monitor;
GRANT EXECUTE ON FUNCTION tx_health(boolean), table_export.shadow_size(integer),
    table_export.pending_changes(text), table_export.pending_batches(text) TO pg_monitor;
