-- The triggers of tracked tables, and the event triggers for DDL that no trigger on a table sees. Such DDL
-- changes the values of rows, removes rows, or lets statements write without firing the triggers. The
-- extension's own DDL on triggers fires the event triggers as well; the setting table_export.works tells them
-- to ignore it.

-- A statement fires the triggers of the table that it names, so each member of a tracked table has its own.
-- They are ENABLE ALWAYS, so that they fire for writes under session_replication_role = replica as well.
CREATE FUNCTION table_export.create_triggers(tracked table_export.tracked, relation regclass, by_row boolean)
RETURNS void
LANGUAGE plpgsql SET table_export.works = on
AS $$
DECLARE
    event text;
    transition text;
    name text;
    enabling text[];
BEGIN
    IF by_row THEN
        RAISE NOTICE 'changes of table "%" are captured row by row', relation
            USING DETAIL = 'A subscription writes to it, and what it applies fires no statement triggers.';
    END IF;
    FOR event, transition IN VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows'),
                                    ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
                                    ('delete', 'REFERENCING OLD TABLE AS old_rows'),
                                    ('truncate', '')
    LOOP
        name := 'pg_table_export_' || event
                || CASE WHEN relation <> tracked.relation THEN '_' || tracked.id ELSE '' END;
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s '
                                  'EXECUTE FUNCTION table_export.capture(%L)',
                                  name, event, relation,
                                  CASE WHEN by_row AND event <> 'truncate' THEN 'FOR EACH ROW'
                                       ELSE transition || ' FOR EACH STATEMENT' END,
                                  tracked.id);
        enabling := enabling || pg_catalog.format('ENABLE ALWAYS TRIGGER %I', name);
    END LOOP;
    EXECUTE pg_catalog.format('ALTER TABLE ONLY %s %s', relation, pg_catalog.array_to_string(enabling, ', '));
END
$$;
COMMENT ON FUNCTION table_export.create_triggers(table_export.tracked, regclass, boolean) IS
    'makes the triggers of one member of a tracked table';

-- Drops the triggers of all members and of former members, or those of some relations.
CREATE FUNCTION table_export.drop_triggers(tracked table_export.tracked, relations regclass[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET table_export.works = on
AS $$
DECLARE
    relation regclass;
    name text;
BEGIN
    FOR relation, name IN
        SELECT g.tgrelid, g.tgname
          FROM pg_catalog.pg_trigger AS g
         WHERE g.tgfoid = 'table_export.capture()'::pg_catalog.regprocedure
           AND g.tgargs =
               pg_catalog.convert_to(tracked.id::pg_catalog.text, 'UTF8') || '\x00'::pg_catalog.bytea
           AND (relations IS NULL OR g.tgrelid = ANY (relations))
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', name, relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION table_export.drop_triggers(table_export.tracked, regclass[]) IS
    'drops the triggers of a tracked table, or those on some of its members';

-- Op F says that anything may have changed. The next export sends the table in full.
CREATE FUNCTION table_export.note(tracked table_export.tracked)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    current_segment regclass;
BEGIN
    -- The lock on the row keeps the segment current until the transaction ends.
    SELECT pg_catalog.to_regclass(pg_catalog.format('table_export.shadow_%s_%s', t.id, t.segment))
      INTO STRICT current_segment
      FROM table_export.tracked AS t WHERE t.id = tracked.id FOR SHARE;
    -- Without the shadow no export is possible. There is nothing to note then, and DDL need not fail.
    IF current_segment IS NOT NULL THEN
        EXECUTE pg_catalog.format('INSERT INTO %s (xid, op, run) '
                                  'VALUES (pg_catalog.pg_current_xact_id(), ''F'', 1)', current_segment);
    END IF;
END
$$;
COMMENT ON FUNCTION table_export.note(table_export.tracked) IS
    'notes in the shadow of a tracked table that anything may have changed';

-- For ALTER TABLE … TYPE … USING and the like. VACUUM FULL and CLUSTER do not fire it; they change no values.
CREATE FUNCTION table_export.capture_rewrite()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM table_export.note(t)
       FROM table_export.tracked AS t
      WHERE EXISTS (SELECT FROM table_export.member AS m
                     WHERE m.tracked = t.id AND m.relation = pg_catalog.pg_event_trigger_table_rewrite_oid());
END
$$;
COMMENT ON FUNCTION table_export.capture_rewrite() IS 'notes that DDL has rewritten a tracked table';

-- The numbers of a key's columns survive a renaming, the names survive a restore. After either, this renews
-- the one by the other.
CREATE FUNCTION table_export.renew_keys()
RETURNS void
LANGUAGE sql
AS $$
    UPDATE table_export.tracked AS t
       SET relation_oid = k.relation, key = k.attnums, key_names = k.names
      FROM (SELECT t.id,
                   t.relation,
                   pg_catalog.array_agg(a.attnum ORDER BY c.position) AS attnums,
                   pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY c.position) AS names
              FROM table_export.tracked AS t
             CROSS JOIN ROWS FROM (pg_catalog.unnest(t.key), pg_catalog.unnest(t.key_names))
                             WITH ORDINALITY AS c (attnum, name, position)
              JOIN pg_catalog.pg_attribute AS a
                ON a.attrelid = t.relation AND NOT a.attisdropped
               AND CASE WHEN t.relation_oid = t.relation THEN a.attnum = c.attnum ELSE a.attname = c.name END
             GROUP BY t.id, t.relation) AS k
     WHERE k.id = t.id
       AND pg_catalog.cardinality(k.attnums) = pg_catalog.cardinality(t.key)
       AND (t.relation_oid, t.key_names) IS DISTINCT FROM (k.relation::pg_catalog.oid, k.names)
$$;
COMMENT ON FUNCTION table_export.renew_keys() IS 'renews what is remembered of the keys of tracked tables';

-- Gives triggers to new members (partitions that are created or attached, parents that a table begins to
-- inherit from) and drops those of former ones. Tables to which a subscription begins to write get row
-- triggers. A member that comes or goes with rows in it is noted, because no trigger has seen these rows. So
-- is a member whose triggers ALTER TABLE has disabled: what is written until they are enabled again is not
-- captured.
CREATE FUNCTION table_export.follow_members()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stray table_export.stray;
    tracked table_export.tracked;
BEGIN
    IF pg_catalog.current_setting('table_export.works', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM table_export.renew_keys();
    FOR stray IN SELECT * FROM table_export.stray
    LOOP
        SELECT * INTO STRICT tracked FROM table_export.tracked AS t WHERE t.id = stray.tracked;
        IF stray.joins THEN
            PERFORM table_export.create_triggers(tracked, stray.relation, stray.by_row);
        ELSE
            PERFORM table_export.drop_triggers(tracked, ARRAY[stray.relation]);
        END IF;
        IF stray.holds_rows THEN
            PERFORM table_export.note(tracked);
        END IF;
    END LOOP;
    PERFORM table_export.note(t)
       FROM table_export.tracked AS t
      WHERE EXISTS (SELECT FROM table_export.member AS m
                     WHERE m.tracked = t.id AND NOT m.is_intact
                       AND m.relation IN (SELECT c.objid
                                            FROM pg_catalog.pg_event_trigger_ddl_commands() AS c));
END
$$;
COMMENT ON FUNCTION table_export.follow_members() IS
    'gives triggers to new members of tracked tables, and takes them from former ones';

-- Notes two things. A partition that is dropped takes its rows along: its triggers are dropped because of it,
-- not by name (NOT original). Triggers that are dropped by name (original) may be created again, but what is
-- written in between is not captured.
CREATE FUNCTION table_export.capture_drop()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_catalog.current_setting('table_export.works', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM table_export.note(t)
       FROM pg_catalog.pg_event_trigger_dropped_objects() AS d
       JOIN table_export.tracked AS t
         ON CASE WHEN d.original
                 THEN EXISTS (SELECT FROM table_export.member AS m
                               WHERE m.tracked = t.id AND NOT m.is_intact
                                 AND m.relation = pg_catalog.to_regclass(
                                         pg_catalog.format('%I.%I', VARIADIC d.address_names[1:2])))
                 ELSE d.address_names[3] = 'pg_table_export_truncate_' || t.id END
      WHERE d.object_type = 'trigger';
END
$$;
COMMENT ON FUNCTION table_export.capture_drop() IS
    'notes that a partition of a tracked table has been dropped, or triggers have';

CREATE EVENT TRIGGER pg_table_export_rewrite ON table_rewrite
    EXECUTE FUNCTION table_export.capture_rewrite();
CREATE EVENT TRIGGER pg_table_export_members ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE SCHEMA', 'ALTER SUBSCRIPTION', 'CREATE SUBSCRIPTION')
    EXECUTE FUNCTION table_export.follow_members();
CREATE EVENT TRIGGER pg_table_export_drop ON sql_drop
    EXECUTE FUNCTION table_export.capture_drop();
ALTER EVENT TRIGGER pg_table_export_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_table_export_members ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_table_export_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER pg_table_export_rewrite IS 'notes DDL that rewrites tracked tables';
COMMENT ON EVENT TRIGGER pg_table_export_members IS
    'follows DDL that makes tables members of tracked ones, or takes them away';
COMMENT ON EVENT TRIGGER pg_table_export_drop IS
    'notes DDL that drops partitions of tracked tables, or triggers';

REVOKE ALL ON FUNCTION table_export.create_triggers(table_export.tracked, regclass, boolean),
    table_export.drop_triggers(table_export.tracked, regclass[]), table_export.note(table_export.tracked),
    table_export.renew_keys(),
    table_export.capture_rewrite(), table_export.follow_members(), table_export.capture_drop() FROM PUBLIC;
