//! Merging records into a table: only rows that differ are updated in place, inserted or deleted.
//!
//! Input: the staged ids and records of a part. Output: row counts. One join of the records with the table
//! assigns each row to a [`Set`]. Then one statement processes each set. The planner knows the size of each
//! set, so a small batch uses the index of the key, and a large one is hashed or sorted within work_mem.
//!
//! Values are compared byte by byte, as in REFRESH MATERIALIZED VIEW CONCURRENTLY. Two reasons: json has no
//! equality operator. Equal values can have different text, even in a key.
//!
//! A key is its text, and finds its row by the unique index over its columns, if there is one. Where the
//! index takes two texts for equal, the row that is found is given the other text. An id without a record
//! stands for the row with its very text.

use std::ffi::CStr;

use crate::destination::error::RowsError;
use crate::error::Result;
use crate::pg::staged::Staged;
use crate::pg::table::Table;
use crate::pg::{query, settings, snapshot};
use crate::table::key::{self, KeyColumn};
use crate::table::shape::{Column, ColumnsNotUpdatable, Shape};
use batch::{Kind, Part};

/// A table, as a part is merged into it.
///
/// In queries the table is `d`, staged rows are `s`, and their fields are `c1`, `c2` and so on, in the order
/// of `columns`, because the columns of users may have any names.
pub struct Merge<'a> {
    pub(super) part: &'a Part,
    table: &'a Table,
    pub(super) shape: &'a Shape,
    /// The columns of the part, those of the key first.
    pub(super) columns: Vec<&'a Column>,
    /// The columns of the key, as this table compares them.
    pub(super) key: Vec<KeyColumn>,
}

/// The rows to process, one field for each [`Set`].
pub struct RowSets {
    /// Keys of rows to delete.
    pub gone: Staged,
    /// Records of rows to update.
    pub changed: Staged,
    /// Records of rows to delete and insert again.
    pub replaced: Staged,
    /// Records of rows to insert.
    pub new: Staged,
    not_updatable: ColumnsNotUpdatable,
}

/// A set of rows that one statement processes. The comparison returns the set's number; the statement reads
/// the rows by the set's name.
#[derive(Clone, Copy)]
enum Set {
    Gone,
    Changed,
    Replaced,
    New,
}

impl Set {
    /// All sets in the order of their numbers.
    const ALL: [Set; 4] = [Set::Gone, Set::Changed, Set::Replaced, Set::New];

    fn number(self) -> i32 {
        self as i32
    }

    fn name(self) -> &'static CStr {
        match self {
            Set::Gone => c"gone",
            Set::Changed => c"changed",
            Set::Replaced => c"replaced",
            Set::New => c"new",
        }
    }
}

impl<'a> Merge<'a> {
    /// Looks up the columns of a part in a table, and how those of the key are compared there.
    pub fn of(part: &'a Part, table: &'a Table, shape: &'a Shape) -> Result<Merge<'a>> {
        let others = part.columns.iter().map(|column| &column.name).filter(|name| !part.key.contains(name));
        let columns = part.key.iter().chain(others).map(|name| shape.column(name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let attnums = columns.iter().take(part.key.len()).map(|column| column.attnum).collect::<Vec<_>>();
        let key = snapshot::latest(|| key::compared(table, &attnums))?;
        Ok(Merge { part, table, shape, columns, key })
    }

    /// Returns the unique index over the key, its name quoted, if it takes different texts for equal.
    pub fn inexact_index(&self) -> Option<&str> {
        self.key.iter().find(|column| !column.is_exact)?.index()
    }

    /// Refuses two keys of different text that the unique index over the key takes for equal: those of two
    /// records, or of a record and a row whose key is no id. The error names the keys if `shows_rows`.
    pub fn require_distinct(&self, ids: Option<&Staged>, records: &Staged, shows_rows: bool) -> Result<()> {
        let Some(index) = self.inexact_index() else { return Ok(()) };
        let order = self.key_list(", ", |column, n| column.in_order(&format!("c{n}")).unwrap_or_default());
        let mut pairs = format!(
            "SELECT ARRAY[{before}, {own}]
               FROM (SELECT {fields}, {lag} FROM {records} WINDOW w AS (ORDER BY {order})) AS s
              WHERE {equal}",
            before = self.key_text(|_, n| format!("s.b{n}")),
            own = self.key_text(|_, n| format!("s.c{n}")),
            fields = self.key_fields(),
            lag = self.key_list(", ", |_, n| format!("pg_catalog.lag(s.c{n}) OVER w AS b{n}")),
            records = self.records_as_s(records),
            equal = self.key_list(" AND ", |column, n| column.equal(&format!("s.b{n}"), &format!("s.c{n}"))),
        );
        let mut staged = vec![records];
        if let Some(ids) = ids {
            pairs += &format!(
                " UNION ALL SELECT ARRAY[{ours}, {theirs}] FROM {records} JOIN {rows} AS d ON {matches}
                   WHERE NOT ({same}) AND NOT EXISTS (SELECT FROM {ids} AS i ({fields}) WHERE {is_named})",
                ours = self.key_text(|column, _| of_key("d", column)),
                theirs = self.key_text(|_, n| format!("s.c{n}")),
                records = self.order_by_key(&self.records_as_s(records)),
                rows = self.shape.as_from_item(),
                matches = self.keys_match(),
                same = self.keys_same("s"),
                ids = ids.name(),
                fields = self.key_fields(),
                is_named = self.keys_same("i"),
            );
            staged.push(ids);
        }
        // Not LIMIT 1: such a plan is quick only if there are such keys.
        let sql = format!(
            "SELECT pg_catalog.to_json(pg_catalog.min(p.pair)) FROM ({pairs}) AS p (pair) \
             HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0"
        );
        match query::in_transaction_with(&sql, &staged)?.first() {
            None => Ok(()),
            Some(row) => Err(RowsError::EqualKeys {
                table: self.shape.name_for_errors(),
                keys: shows_rows.then(|| row.json(0)).transpose()?,
                index: index.to_owned(),
            }
            .into()),
        }
    }

    /// Deletes all but one of the rows that have the same key. Such rows can exist if no unique index forbids
    /// them.
    pub fn delete_duplicates(&self, ids: Option<&Staged>) -> Result<u64> {
        let has_index = self.key.iter().any(|column| column.index().is_some());
        if has_index || key::is_unique(self.table.oid(), &self.part.key)? {
            return Ok(0);
        }
        let rows = self.shape.as_from_item();
        let same =
            self.key_list(" AND ", |column, _| column.same(&of_key("o", column), &of_key("d", column)));
        let is_surplus = format!(
            "EXISTS (SELECT FROM {rows} AS o WHERE {same} AND (o.tableoid, o.ctid) < (d.tableoid, d.ctid))"
        );
        Ok(match ids {
            None => query::modify(&format!("DELETE FROM {rows} AS d WHERE {is_surplus}"), &[])?,
            Some(ids) => {
                let (keys, matches) = (self.keys_as_s(ids), self.keys_match());
                let sql = format!("DELETE FROM {rows} AS d USING {keys} WHERE {matches} AND {is_surplus}");
                query::modify(&sql, &[ids])?
            }
        })
    }

    /// Deletes the rows that have a null in their key. No row of the source has one, and no key finds them.
    pub fn delete_without_key(&self) -> Result<u64> {
        let Some(is_without) = self.is_without_key() else { return Ok(0) };
        let rows = self.shape.as_from_item();
        Ok(query::modify(&format!("DELETE FROM {rows} AS d WHERE {is_without}"), &[])?)
    }

    /// The condition that a row of the table has a null in its key; `None` if none can. IS NULL is true for a
    /// row of nulls as well.
    pub(super) fn is_without_key(&self) -> Option<String> {
        let nullable = self.key.iter().filter(|column| !column.not_null);
        let nullable = nullable.map(|column| of_key("d", column)).collect::<Vec<_>>().join(", ");
        (!nullable.is_empty()).then(|| format!("pg_catalog.num_nulls({nullable}) OPERATOR(pg_catalog.>) 0"))
    }

    /// Compares records with the table. With `ids`, the rows of those ids that have no record are gone;
    /// without, all rows that have no record are.
    pub fn row_sets(&self, ids: Option<Staged>, records: &Staged) -> Result<RowSets> {
        let not_updatable = ColumnsNotUpdatable::of(self.table.oid(), &self.part.key)?;
        let (join, matches) = match self.part.kind {
            Kind::Full => (
                "FULL",
                self.key_list(" AND ", |column, n| {
                    column.matches_in_full_join(&of_key("d", column), &format!("s.c{n}"))
                }),
            ),
            Kind::Changes | Kind::Baseline => ("LEFT", self.keys_match()),
        };
        let sql = format!(
            "SELECT {fields}, d.ctid AS place,
                    CASE WHEN {is_gone} THEN {gone} WHEN {is_new} THEN {new} \
                    WHEN {is_replaced} THEN {replaced} ELSE {changed} END
               FROM {records} {join} JOIN {rows} AS d ON {matches}
              WHERE {is_gone} OR {is_new} OR {is_changed}",
            gone = Set::Gone.number(),
            new = Set::New.number(),
            replaced = Set::Replaced.number(),
            changed = Set::Changed.number(),
            // Only the table has the key of a row that is gone.
            fields = self.column_list(|column, n| match n <= self.key.len() {
                true => format!("COALESCE(s.c{n}, {}) AS c{n}", of("d", column)),
                false => format!("s.c{n}"),
            }),
            // Not IS NULL, which is true for a row of nulls as well; a key of a composite type may be one.
            is_gone = "pg_catalog.num_nulls(s.c1) = 1",
            is_new = "d.tableoid IS NULL",
            is_replaced = self.differ(|column| not_updatable.has(&column.name)),
            is_changed = self.differ(|_| true),
            records = self.order_by_key(&self.records_as_s(records)),
            rows = self.shape.as_from_item(),
        );
        let [gone, changed, replaced, new] = query::stage(&sql, &[records], Set::ALL.map(Set::name))?;
        let gone = match ids {
            // Each record has an id of its own. With as many records as ids, no row is gone.
            Some(ids) if ids.rows() > records.rows() => self.without_record(ids, records)?,
            Some(_) | None => gone,
        };
        Ok(RowSets { gone, changed, replaced, new, not_updatable })
    }

    /// Returns the ids that have no record: no key of a record is equal to them for the index.
    fn without_record(&self, ids: Staged, records: &Staged) -> Result<Staged> {
        if records.rows() == 0 {
            return Ok(ids);
        }
        let sql = format!(
            "SELECT d.*, 0 FROM {ids} AS d ({fields}) WHERE NOT EXISTS (SELECT FROM {records} WHERE {same})",
            ids = ids.name(),
            fields = self.key_fields(),
            records = self.records_as_s(records),
            same = self.key_list(" AND ", |column, n| column.matches(&format!("d.c{n}"), &format!("s.c{n}"))),
        );
        let [gone] = query::stage(&sql, &[&ids, records], [c"gone"])?;
        Ok(gone)
    }

    /// Deletes the rows that have one of the keys, with the same text, and returns how many.
    pub fn delete(&self, keys: &Staged) -> Result<u64> {
        if keys.rows() == 0 {
            return Ok(0);
        }
        let (rows, same) = (self.shape.as_from_item(), self.keys_same("s"));
        let keys_in_order = self.order_by_key(&self.keys_as_s(keys));
        Ok(query::modify(&format!("DELETE FROM {rows} AS d USING {keys_in_order} WHERE {same}"), &[keys])?)
    }

    /// Updates the changed rows in place, and returns how many.
    pub fn update(&self, sets: &RowSets) -> Result<u64> {
        if sets.changed.rows() == 0 {
            return Ok(0);
        }
        let assignments = (1..)
            .zip(&self.columns)
            .filter(|(_, column)| !column.is_generated && !sets.not_updatable.has(&column.name))
            .map(|(n, column)| format!("{} = s.c{n}", column.quoted()))
            .collect::<Vec<_>>()
            .join(", ");
        if assignments.is_empty() {
            return Ok(0);
        }
        let (rows, matches) = (self.shape.as_from_item(), self.keys_match());
        let sql = format!("UPDATE {rows} AS d SET {assignments} FROM changed AS s WHERE {matches}");
        // Rows in different partitions may have the same ctid.
        if !self.table.is_partitioned() {
            let sql = format!("{sql} AND d.ctid OPERATOR(pg_catalog.=) s.place");
            let _settings = settings::pin_nested_loops();
            let updated = query::modify(&sql, &[&sets.changed])?;
            if updated == sets.changed.rows() {
                return Ok(updated);
            }
            // Other transactions have updated some of the rows since the comparison, which changed their
            // ctid.
        }
        Ok(query::modify(&sql, &[&sets.changed])?)
    }

    /// Deletes rows and inserts them again, keeping the values of the columns that the part does not have.
    /// All are deleted before the first is inserted, so that rows that swap a unique value do not conflict.
    pub fn replace(&self, sets: &RowSets) -> Result<u64> {
        if sets.replaced.rows() == 0 {
            return Ok(0);
        }
        let is_own =
            |column: &&Column| !column.is_generated && self.columns.iter().all(|c| c.attnum != column.attnum);
        let own = self.shape.columns.iter().filter(is_own).collect::<Vec<_>>();
        let kept =
            (1..).zip(&own).map(|(n, column)| format!("{} AS o{n}, ", of("d", column))).collect::<String>();
        let sql = format!(
            "DELETE FROM {rows} AS d USING replaced AS s WHERE {matches} RETURNING {kept}{fields}, 0",
            rows = self.shape.as_from_item(),
            matches = self.keys_match(),
            fields = self.column_list(|_, n| format!("s.c{n}")),
        );
        let [back] = query::stage(&sql, &[&sets.replaced], [c"back"])?;
        let own_names = own.iter().map(|column| format!("{}, ", column.quoted())).collect::<String>();
        let own_fields = (1..=own.len()).map(|n| format!("s.o{n}, ")).collect::<String>();
        self.insert_from(&back, "back AS s", &own_names, &own_fields)
    }

    /// Inserts records in the order of these columns, and returns how many. Other columns get their defaults.
    pub fn insert(&self, records: &Staged) -> Result<u64> {
        self.insert_from(records, &format!("{} AS s", records.name()), "", "")
    }

    /// Inserts records, whose fields come in the order of the file, and returns how many.
    pub fn insert_records(&self, records: &Staged) -> Result<u64> {
        self.insert_from(records, &self.records_as_s(records), "", "")
    }

    fn insert_from(
        &self,
        records: &Staged,
        from_item: &str,
        own_names: &str,
        own_fields: &str,
    ) -> Result<u64> {
        if records.rows() == 0 {
            return Ok(0);
        }
        let sql = format!(
            "INSERT INTO {table} ({own_names}{names}) OVERRIDING SYSTEM VALUE \
             SELECT {own_fields}{fields} FROM {from_item}",
            table = self.shape.quoted(),
            names = self.written_list(|column, _| column.quoted()),
            fields = self.written_list(|_, n| format!("s.c{n}")),
        );
        Ok(query::modify(&sql, &[records])?)
    }

    /// The columns of the part that the table generates.
    pub fn generated(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().copied().filter(|column| column.is_generated)
    }

    pub(super) fn first(&self, sql: &str, staged: Option<&Staged>) -> Result<Option<String>> {
        let found = query::in_transaction_with(sql, &staged.into_iter().collect::<Vec<_>>())?;
        Ok(found.first().map_or(Ok(None), |row| row.optional(0))?)
    }

    /// The FROM item `s` for records, whose fields come in the order of the file.
    pub fn records_as_s(&self, records: &Staged) -> String {
        let place =
            |name| self.columns.iter().position(|column| column.name == name).map_or(0, |place| place + 1);
        let fields = self.part.columns.iter().map(|column| format!("c{}", place(column.name.as_str())));
        format!("{} AS s ({})", records.name(), fields.collect::<Vec<_>>().join(", "))
    }

    /// The FROM item `s` with its rows in the order of the key. PostgreSQL has no statistics of staged rows,
    /// so that it would hash the whole table for a join. Sorted rows are merged with the table's index, and
    /// written in its order.
    pub(super) fn order_by_key(&self, from_item: &str) -> String {
        let fields = (1..).zip(&self.key).filter_map(|(n, column)| column.in_order(&format!("c{n}")));
        let fields = fields.collect::<Vec<_>>();
        if fields.is_empty() {
            return from_item.to_owned();
        }
        format!("(SELECT * FROM {from_item} ORDER BY {} OFFSET 0) AS s", fields.join(", "))
    }

    /// The FROM item `s` for keys. Fields after those of the key keep their names, and are not used.
    pub(super) fn keys_as_s(&self, keys: &Staged) -> String {
        format!("{} AS s ({})", keys.name(), self.key_fields())
    }

    fn key_fields(&self) -> String {
        self.key_list(", ", |_, n| format!("c{n}"))
    }

    /// The condition that a row of the table is that of a staged row.
    pub(super) fn keys_match(&self) -> String {
        self.key_list(" AND ", |column, n| column.matches(&of_key("d", column), &format!("s.c{n}")))
    }

    /// The condition that a row of the table `d` has the very key of a staged row.
    pub(super) fn keys_same(&self, staged: &str) -> String {
        self.key_list(" AND ", |column, n| column.same(&of_key("d", column), &format!("{staged}.c{n}")))
    }

    /// A key as text, for an error, and not all of a long one.
    pub(super) fn key_text(&self, value: impl Fn(&KeyColumn, usize) -> String) -> String {
        let values = self.key_list(", ", value);
        format!("pg_catalog.left(pg_catalog.concat_ws(', ', {values}), 200) COLLATE pg_catalog.\"C\"")
    }

    /// A list with one item for each column of the key.
    fn key_list(&self, separator: &str, item: impl Fn(&KeyColumn, usize) -> String) -> String {
        (1..).zip(&self.key).map(|(n, column)| item(column, n)).collect::<Vec<_>>().join(separator)
    }

    /// The condition that a row of the table differs from a record in one of the columns that `is_meant`
    /// selects. Without the casts PostgreSQL would compare column by column, and look for an operator of each
    /// type.
    pub(super) fn differ(&self, is_meant: impl Fn(&Column) -> bool) -> String {
        let meant = (1..).zip(&self.columns).filter(|(_, column)| is_meant(column));
        let (ours, theirs): (Vec<_>, Vec<_>) =
            meant.map(|(n, column)| (of("d", column), format!("s.c{n}"))).unzip();
        format!(
            "ROW({})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({})::pg_catalog.record",
            ours.join(", "),
            theirs.join(", ")
        )
    }

    /// A list with one item for each column that statements write to, separated by commas.
    fn written_list(&self, field: impl Fn(&Column, usize) -> String) -> String {
        let written = (1..).zip(&self.columns).filter(|(_, column)| !column.is_generated);
        written.map(|(n, column)| field(column, n)).collect::<Vec<_>>().join(", ")
    }

    /// A list with one item for each column of the part, separated by commas.
    fn column_list(&self, field: impl Fn(&Column, usize) -> String) -> String {
        (1..).zip(&self.columns).map(|(n, column)| field(column, n)).collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn of(alias: &str, column: &Column) -> String {
    format!("{alias}.{}", column.quoted())
}

pub(super) fn of_key(alias: &str, column: &KeyColumn) -> String {
    format!("{alias}.{}", query::quote_identifier(&column.name))
}
