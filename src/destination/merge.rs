//! Merging records into a table: rows are updated in place, inserted, or deleted, and the rest is left alone.
//!
//! One join of the records with the table says what is to be done with which row; it is done by statements over sets of
//! rows whose size the planner knows. So a small batch uses the index of the key, and a large one is hashed or sorted,
//! within work_mem.
//!
//! Values are compared byte by byte, as in REFRESH MATERIALIZED VIEW CONCURRENTLY: json has no equality, and values that
//! are equal may look different, also those of a key.

use crate::error::Error;
use crate::pg::staged::Staged;
use crate::pg::table::Table;
use crate::pg::{query, settings};
use crate::table::key;
use crate::table::shape::{Column, ColumnsNotUpdatable, Shape};
use batch::{Kind, Part};

/// A table, as a part is merged into it.
///
/// In queries the table is `d`, staged rows are `s`, and their fields are `c1`, `c2` and so on, in the order of `columns`:
/// the columns of users may have any names.
pub struct Merge<'a> {
    part: &'a Part,
    table: &'a Table,
    shape: &'a Shape,
    /// The columns of the part, those of the key first.
    columns: Vec<&'a Column>,
    /// The equality of each column of the key.
    equality: Vec<String>,
}

/// What is to be done, by rows.
pub struct Plan {
    /// Keys of rows to delete.
    pub gone: Staged,
    /// Records of rows to update.
    pub changed: Staged,
    /// Records of rows to delete and insert again.
    pub replaced: Staged,
    /// Records of rows to insert.
    pub new: Staged,
    /// The columns that no UPDATE changes.
    fixed: ColumnsNotUpdatable,
}

impl<'a> Merge<'a> {
    /// Looks at how the rows of a table are told apart by the key of a part.
    pub fn of(part: &'a Part, table: &'a Table, shape: &'a Shape) -> Result<Merge<'a>, Error> {
        let others = part.columns.iter().map(|column| &column.name).filter(|name| !part.key.contains(name));
        let columns = part.key.iter().chain(others).map(|name| shape.column(name));
        let columns = columns.collect::<Result<Vec<_>, Error>>()?;
        let equality = columns.iter().take(part.key.len()).map(|column| {
            key::equality(table, column.attnum)?.ok_or_else(|| Error::NoEquality {
                table: shape.name_for_errors(),
                column: column.name.clone(),
                type_name: column.type_name.clone(),
            })
        });
        let equality = equality.collect::<Result<_, Error>>()?;
        Ok(Merge { part, table, shape, columns, equality })
    }

    /// Deletes all but one of the rows that have the same key, which can be where no unique index forbids it.
    pub fn delete_duplicates(&self, ids: Option<&Staged>) -> Result<u64, Error> {
        if key::is_unique(self.table.oid(), &self.part.key)? {
            return Ok(0);
        }
        let rows = self.shape.as_from_item();
        let same = self.keys_equal(|column, _| of("o", column), |column, _| of("d", column));
        let is_surplus = format!(
            "EXISTS (SELECT FROM {rows} AS o WHERE {same} AND (o.tableoid, o.ctid) < (d.tableoid, d.ctid))"
        );
        match ids {
            None => query::modify(&format!("DELETE FROM {rows} AS d WHERE {is_surplus}"), &[]),
            Some(ids) => {
                let (keys, matches) = (self.keys(ids), self.matches());
                let sql = format!("DELETE FROM {rows} AS d USING {keys} WHERE {matches} AND {is_surplus}");
                query::modify(&sql, &[ids])
            }
        }
    }

    /// Compares records with the table. With ids, those that have no record are gone; else all rows that have none.
    pub fn plan(&self, ids: Option<Staged>, records: &Staged) -> Result<Plan, Error> {
        let fixed = ColumnsNotUpdatable::of(self.table.oid(), &self.part.key)?;
        let sql = format!(
            "SELECT {fields}, d.ctid AS place,
                    CASE WHEN {is_gone} THEN 0 WHEN {is_new} THEN 3 WHEN {is_replaced} THEN 2 ELSE 1 END
               FROM {records} {join} JOIN {rows} AS d ON {matches}
              WHERE {is_gone} OR {is_new} OR {is_changed}",
            // What is gone has its key at this side only.
            fields = self.list(|column, n| match n <= self.equality.len() {
                true => format!("COALESCE(s.c{n}, {}) AS c{n}", of("d", column)),
                false => format!("s.c{n}"),
            }),
            // Not IS NULL, which takes a row of nulls, in a key of a composite type, for null.
            is_gone = "pg_catalog.num_nulls(s.c1) = 1",
            is_new = "d.tableoid IS NULL",
            is_replaced = self.differ(|column| fixed.has(&column.name)),
            is_changed = self.differ(|_| true),
            records = self.in_order(&self.records(records)),
            join = if self.part.kind == Kind::Full { "FULL" } else { "LEFT" },
            rows = self.shape.as_from_item(),
            matches = self.matches(),
        );
        let names = [c"gone", c"changed", c"replaced", c"new"];
        let [gone, changed, replaced, new] = query::stage(&sql, &[records], names)?;
        let gone = match ids {
            // Each record has an id of its own, so if there are no more ids, nothing is gone.
            Some(ids) if ids.rows() > records.rows() => self.without_record(ids, records)?,
            Some(_) | None => gone,
        };
        Ok(Plan { gone, changed, replaced, new, fixed })
    }

    /// Leaves those of the ids that have no record.
    fn without_record(&self, ids: Staged, records: &Staged) -> Result<Staged, Error> {
        if records.rows() == 0 {
            return Ok(ids);
        }
        let sql = format!(
            "SELECT d.*, 0 FROM {ids} AS d ({fields}) WHERE NOT EXISTS (SELECT FROM {records} WHERE {same})",
            ids = ids.name(),
            fields = self.key_fields(),
            records = self.records(records),
            same = self.keys_equal(|_, n| format!("d.c{n}"), |_, n| format!("s.c{n}")),
        );
        let [gone] = query::stage(&sql, &[&ids, records], [c"gone"])?;
        Ok(gone)
    }

    /// Deletes the rows with some keys.
    pub fn delete(&self, keys: &Staged) -> Result<u64, Error> {
        if keys.rows() == 0 {
            return Ok(0);
        }
        let (rows, named, matches) =
            (self.shape.as_from_item(), self.in_order(&self.keys(keys)), self.matches());
        query::modify(&format!("DELETE FROM {rows} AS d USING {named} WHERE {matches}"), &[keys])
    }

    /// Updates rows in place.
    pub fn update(&self, plan: &Plan) -> Result<u64, Error> {
        if plan.changed.rows() == 0 {
            return Ok(0);
        }
        let assignments = (1..)
            .zip(&self.columns)
            .filter(|(_, column)| !plan.fixed.has(&column.name))
            .map(|(n, column)| format!("{} = s.c{n}", column.quoted()))
            .collect::<Vec<_>>()
            .join(", ");
        let (rows, matches) = (self.shape.as_from_item(), self.matches());
        let sql = format!("UPDATE {rows} AS d SET {assignments} FROM changed AS s WHERE {matches}");
        // In partitions a ctid does not tell rows apart.
        if !self.table.is_partitioned() {
            let sql = format!("{sql} AND d.ctid OPERATOR(pg_catalog.=) s.place");
            let _settings = settings::pin_nested_loops();
            let updated = query::modify(&sql, &[&plan.changed])?;
            if updated == plan.changed.rows() {
                return Ok(updated);
            }
            // Somebody else has updated rows meanwhile, which are in other places now.
        }
        query::modify(&sql, &[&plan.changed])
    }

    /// Deletes rows and inserts them again, with what the table's own columns had: so no index sees half of a swap.
    pub fn replace(&self, plan: &Plan) -> Result<u64, Error> {
        if plan.replaced.rows() == 0 {
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
            matches = self.matches(),
            fields = self.list(|_, n| format!("s.c{n}")),
        );
        let [back] = query::stage(&sql, &[&plan.replaced], [c"back"])?;
        let own_names = own.iter().map(|column| format!("{}, ", column.quoted())).collect::<String>();
        let own_fields = (1..=own.len()).map(|n| format!("s.o{n}, ")).collect::<String>();
        self.insert_from(&back, &own_names, &own_fields)
    }

    /// Inserts rows; the table's own columns get their defaults.
    pub fn insert(&self, records: &Staged) -> Result<u64, Error> {
        if records.rows() == 0 { Ok(0) } else { self.insert_from(records, "", "") }
    }

    fn insert_from(&self, records: &Staged, own_names: &str, own_fields: &str) -> Result<u64, Error> {
        let sql = format!(
            "INSERT INTO {table} ({own_names}{names}) OVERRIDING SYSTEM VALUE SELECT {own_fields}{fields} FROM {records} AS s",
            table = self.shape.quoted(),
            names = self.list(|column, _| column.quoted()),
            fields = self.list(|_, n| format!("s.c{n}")),
            records = records.name(),
        );
        query::modify(&sql, &[records])
    }

    /// Names the fields of all records, which come in the order of the file.
    fn records(&self, records: &Staged) -> String {
        let place =
            |name| self.columns.iter().position(|column| column.name == name).map_or(0, |place| place + 1);
        let fields = self.part.columns.iter().map(|column| format!("c{}", place(column.name.as_str())));
        format!("{} AS s ({})", records.name(), fields.collect::<Vec<_>>().join(", "))
    }

    /// Staged rows in the order of their keys. PostgreSQL knows nothing of their values, so that it would hash the whole table for
    /// a join; sorted, they are merged with the table's index, and written in its order.
    fn in_order(&self, named: &str) -> String {
        let key = (1..).zip(&self.columns).take(self.equality.len());
        let ordered = key.filter(|(_, column)| self.table.has_order(column.attnum));
        let fields = ordered.map(|(n, _)| format!("c{n}")).collect::<Vec<_>>();
        if fields.is_empty() {
            return named.to_owned();
        }
        format!("(SELECT * FROM {named} ORDER BY {} OFFSET 0) AS s", fields.join(", "))
    }

    /// Names the fields of keys; further fields do not matter.
    fn keys(&self, keys: &Staged) -> String {
        format!("{} AS s ({})", keys.name(), self.key_fields())
    }

    fn key_fields(&self) -> String {
        (1..=self.equality.len()).map(|n| format!("c{n}")).collect::<Vec<_>>().join(", ")
    }

    /// The condition that a row of the table has the key of a staged one.
    fn matches(&self) -> String {
        self.keys_equal(|column, _| of("d", column), |_, n| format!("s.c{n}"))
    }

    fn keys_equal(
        &self,
        left: impl Fn(&Column, usize) -> String,
        right: impl Fn(&Column, usize) -> String,
    ) -> String {
        let equal = (1..)
            .zip(&self.columns)
            .zip(&self.equality)
            .map(|((n, column), equality)| format!("{} {equality} {}", left(column, n), right(column, n)));
        equal.collect::<Vec<_>>().join(" AND ")
    }

    /// The condition that a row of the table differs from a record in one of some columns. Without the casts PostgreSQL
    /// would compare column by column, and look for an operator of each type.
    fn differ(&self, is_meant: impl Fn(&Column) -> bool) -> String {
        let meant = (1..).zip(&self.columns).filter(|(_, column)| is_meant(column));
        let (ours, theirs): (Vec<_>, Vec<_>) =
            meant.map(|(n, column)| (of("d", column), format!("s.c{n}"))).unzip();
        format!(
            "ROW({})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({})::pg_catalog.record",
            ours.join(", "),
            theirs.join(", ")
        )
    }

    fn list(&self, field: impl Fn(&Column, usize) -> String) -> String {
        (1..).zip(&self.columns).map(|(n, column)| field(column, n)).collect::<Vec<_>>().join(", ")
    }
}

fn of(alias: &str, column: &Column) -> String {
    format!("{alias}.{}", column.quoted())
}
