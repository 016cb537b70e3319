//! A table as it is at the source: with generated columns, defaults, constraints, indexes, partitions and
//! comments. PostgreSQL's own functions write all of them, with qualified names.

use std::collections::{BTreeSet, HashMap};

use crate::error::Result;
use crate::pg::query::{self, Row};
use crate::pg::table::{self, Lock};
use crate::pg::{self, Oid};
use crate::source::ddl::needed::{Made, comment};
use crate::table::ddl;
use crate::table::shape::{Column, Shape};

/// What no script has, in its own words.
pub const LEFT_OUT: &str = "Left out: foreign keys, triggers, rules, policies, owners, grants, inheritance, \
    identities and defaults that need a sequence, statistics, storage parameters, tablespaces.";

/// A table that is being written, and what its expressions depend on.
#[derive(Default)]
struct Written {
    types: Vec<Oid>,
    collations: Vec<Oid>,
    objects: Vec<(&'static str, Oid)>,
    schemas: BTreeSet<String>,
    statements: Vec<String>,
}

/// Returns what makes a table, and its partitions if they are wanted.
pub fn table(relation: Oid, shape: &Shape, with_partitions: bool) -> Result<Made> {
    let mut written = Written::default();
    let is_partitioned = shape.kind == 'p' && with_partitions;
    written.table(relation, shape, is_partitioned)?;
    let mut members = vec![relation];
    if is_partitioned {
        table::lock_with_descendants(relation, Lock::Read);
        for row in query::in_snapshot(include_str!("partitions.sql"), &[&relation])? {
            let partition = Oid::from(row.get::<u32>(0)?);
            let Some(shape) = Shape::of(partition)? else { continue };
            if !matches!(shape.kind, 'r' | 'p') {
                written.statements.push(comment(&format!("Left out: partition {}", shape.quoted())));
                continue;
            }
            members.push(partition);
            written.table(partition, &shape, shape.kind == 'p')?;
            written.statements.push(row.get(1)?);
        }
    }
    let Written { types, collations, objects, schemas, statements } = written;
    Ok(Made { types, collations, objects, members, schemas, statement: statements.join("\n") })
}

impl Written {
    /// Writes one table. A partition is a table until it is attached, so that it keeps its own order of
    /// columns, and its own defaults and names; PostgreSQL then takes its indexes and constraints for those
    /// of the parent.
    fn table(&mut self, relation: Oid, shape: &Shape, is_partitioned: bool) -> Result<()> {
        self.schemas.insert(shape.schema.clone());
        self.types.extend(shape.columns.iter().map(|column| column.type_oid));
        self.collations.extend(super::collations(relation)?);
        let expressions = self.clauses(relation, include_str!("expressions.sql"))?;
        let clause = |row: &Row| Ok((row.get::<i16>(2)?, row.get::<String>(3)?));
        let clauses = expressions.iter().map(clause).collect::<Result<HashMap<_, _>, pg::Error>>()?;
        let line = |column: &Column| match clauses.get(&column.attnum) {
            Some(clause) => format!("{} {clause}", ddl::column(column)),
            None => ddl::column(column),
        };
        let mut lines = shape.columns.iter().map(line).collect::<Vec<_>>();
        let mut after = Vec::new();
        for row in self.clauses(relation, include_str!("constraints.sql"))? {
            // CREATE TABLE would take one that is NOT VALID for valid.
            let (clause, is_valid): (String, _) = (row.get(2)?, row.flag(3));
            match is_valid {
                true => lines.push(clause),
                false => after.push(format!("ALTER TABLE ONLY {} ADD {clause};", shape.quoted())),
            }
        }
        self.statements.push(match is_partitioned {
            true => {
                self.objects.push(("pg_class", relation));
                let rows = query::in_snapshot("SELECT pg_get_partkeydef($1)", &[&relation])?;
                let key = rows.first().map_or_else(|| Ok(String::new()), |row| row.get(0))?;
                format!(
                    "CREATE TABLE {} (\n    {}\n) PARTITION BY {key};",
                    shape.quoted(),
                    lines.join(",\n    ")
                )
            }
            false => ddl::statement(&shape.quoted(), lines, &[]),
        });
        self.statements.extend(after);
        for row in self.clauses(relation, include_str!("statements.sql"))? {
            self.statements.push(row.get(2)?);
        }
        Ok(())
    }

    /// Runs a query whose first columns are an object, if expressions of it may depend on others: its catalog
    /// and its oid.
    fn clauses(&mut self, relation: Oid, sql: &str) -> Result<Vec<Row>> {
        let rows = query::in_snapshot(sql, &[&relation])?;
        for row in &rows {
            let catalog = match row.optional::<String>(0)?.as_deref() {
                Some("pg_attrdef") => "pg_attrdef",
                Some("pg_constraint") => "pg_constraint",
                Some(_) => "pg_class",
                None => continue,
            };
            self.objects.push((catalog, Oid::from(row.get::<u32>(1)?)));
        }
        Ok(rows)
    }
}
