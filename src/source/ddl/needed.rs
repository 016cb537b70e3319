//! What the tables of a script need before them: schemas, extensions, collations and types, each once and in
//! an order in which they can be made.
//!
//! Invariant: a name with a line break in it stays within its comment.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query::{self, quote_identifier};
use crate::table::definition::is_built_in;

/// A table that a script makes.
pub struct Made {
    /// The types of its columns.
    pub types: Vec<Oid>,
    /// The collations of its columns, but those that come with their types.
    pub collations: Vec<Oid>,
    /// What its expressions may depend on others by: a catalog and an oid.
    pub objects: Vec<(&'static str, Oid)>,
    /// The tables that the statement makes: itself, and partitions.
    pub members: Vec<Oid>,
    /// The schemas that these are in.
    pub schemas: BTreeSet<String>,
    /// What makes it.
    pub statement: String,
}

/// What has been found so far.
#[derive(Default)]
pub struct Needed {
    /// The tables that are yet to be written, by oid.
    tables: HashMap<Oid, Made>,
    /// Whether a script makes it all. Otherwise comments name it.
    is_made: bool,
    /// Whether domains are made with what they ask of their values.
    has_definitions: bool,
    /// The objects that have been looked at. In no catalog but these do two of them share an oid.
    seen: HashSet<(&'static str, Oid)>,
    /// What the reader has to make.
    by_hand: BTreeSet<String>,
    schemas: BTreeSet<String>,
    extensions: Vec<String>,
    /// Types, collations and tables.
    statements: Vec<String>,
}

impl Needed {
    /// Begins a script for these tables, that also makes what they need.
    pub fn made(tables: HashMap<Oid, Made>, has_definitions: bool) -> Needed {
        Needed { tables, is_made: true, has_definitions, ..Needed::default() }
    }

    /// Begins a script whose comments name what its tables need.
    pub fn named() -> Needed {
        Needed::default()
    }

    /// Notes that a schema must exist. The schema public does, as in every database.
    fn schema(&mut self, name: &str) {
        if !["public", "pg_catalog"].contains(&name) {
            self.schemas.insert(name.to_owned());
        }
    }

    /// Writes a table after the types and collations that its columns need.
    pub fn table(&mut self, relation: Oid) -> Result<()> {
        let Some(made) = self.tables.remove(&relation) else { return Ok(()) };
        self.seen.extend(made.members.iter().map(|&member| ("pg_class", member)));
        made.schemas.iter().for_each(|schema| self.schema(schema));
        self.columns(&made)?;
        self.statements.push(made.statement);
        Ok(())
    }

    /// Looks for the types and collations that columns need, and for what expressions do.
    pub fn columns(&mut self, made: &Made) -> Result<()> {
        made.types.iter().try_for_each(|&oid| self.type_of(oid))?;
        made.collations.iter().try_for_each(|&oid| self.collation(oid))?;
        made.objects.iter().try_for_each(|&(catalog, oid)| self.dependencies(oid, catalog))
    }

    /// Looks for what the expressions of an object need. A function is named only: what it is made of no
    /// catalog tells.
    fn dependencies(&mut self, oid: Oid, catalog: &str) -> Result<()> {
        for row in query::in_snapshot(include_str!("dependencies.sql"), &[&oid, &catalog])? {
            let (catalog, oid) = (row.get::<String>(0)?, Oid::from(row.get::<u32>(1)?));
            match catalog.as_str() {
                "pg_type" => self.type_of(oid)?,
                "pg_collation" => self.collation(oid)?,
                other if self.of_extension(oid, other)? => {}
                _ => self.by_hand(&format!("{}, as pg_dump --schema-only shows it", row.get::<String>(2)?)),
            }
        }
        Ok(())
    }

    /// Returns the statements for what a domain asks of its values, after what these need.
    fn of_domain(&mut self, oid: Oid) -> Result<Vec<String>> {
        if !self.has_definitions {
            return Ok(Vec::new());
        }
        let mut statements = Vec::new();
        for row in query::in_snapshot(include_str!("domain.sql"), &[&oid])? {
            self.dependencies(Oid::from(row.get::<u32>(1)?), &row.get::<String>(0)?)?;
            statements.push(row.get(2)?);
        }
        Ok(statements)
    }

    /// Writes a type after all that it is made of. No type is part of itself (heap.c, CheckAttributeType).
    pub fn type_of(&mut self, oid: Oid) -> Result<()> {
        if is_built_in(oid) || !self.seen.insert(("pg_type", oid)) || self.of_extension(oid, "pg_type")? {
            return Ok(());
        }
        let rows = query::in_snapshot(include_str!("type.sql"), &[&oid])?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (name, schema, statement) = (row.get::<String>(0)?, row.get::<String>(1)?, row.optional(2)?);
        let parts: Vec<u32> = row.json(3)?;
        let comes_with_another = statement.is_none() && !parts.is_empty();
        if !self.is_made && !comes_with_another {
            self.by_hand(&format!("type {name}, as pg_dump --schema-only shows it"));
            return Ok(());
        }
        let table = row.optional::<u32>(5)?.map(Oid::from);
        if let Some(table) = table {
            // The type of its rows comes with a table that the script makes.
            self.table(table)?;
            if self.seen.contains(&("pg_class", table)) {
                return Ok(());
            }
        }
        parts.into_iter().try_for_each(|part| self.type_of(Oid::from(part)))?;
        let collations: Vec<u32> = row.json(4)?;
        collations.into_iter().try_for_each(|collation| self.collation(Oid::from(collation)))?;
        let of_domain = self.of_domain(oid)?;
        match statement {
            Some(statement) => {
                self.schema(&schema);
                self.statements.push(statement);
                self.statements.extend(of_domain);
            }
            None if comes_with_another => {}
            None => self.by_hand(&format!("type {name}, as pg_dump --schema-only shows it")),
        }
        if let Some(lacks) = row.optional::<String>(6)? {
            self.comment(&format!("Left out of type {name}: {lacks}"));
        }
        Ok(())
    }

    /// Writes a collation of a user.
    pub fn collation(&mut self, oid: Oid) -> Result<()> {
        if is_built_in(oid)
            || !self.seen.insert(("pg_collation", oid))
            || self.of_extension(oid, "pg_collation")?
        {
            return Ok(());
        }
        let rows = query::in_snapshot(include_str!("collation.sql"), &[&oid])?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (name, schema) = (row.get::<String>(0)?, row.get::<String>(1)?);
        if !self.is_made {
            self.by_hand(&format!("collation {name}, as pg_dump --schema-only shows it"));
            return Ok(());
        }
        self.schema(&schema);
        self.statements.push(row.get(2)?);
        Ok(())
    }

    /// Writes the extension that an object is part of, if it is, and those that this requires before it.
    fn of_extension(&mut self, oid: Oid, catalog: &str) -> Result<bool> {
        let rows = query::in_snapshot(include_str!("extension.sql"), &[&oid, &catalog])?;
        for row in &rows {
            let (extension, name) = (Oid::from(row.get::<u32>(0)?), row.get::<String>(1)?);
            let schema: String = row.get(2)?;
            if is_built_in(extension) || !self.seen.insert(("pg_extension", extension)) {
                continue;
            }
            self.of_extension(extension, "pg_extension")?;
            let (name, quoted) = (quote_identifier(&name), quote_identifier(&schema));
            if self.is_made {
                self.schema(&schema);
                self.extensions.push(format!("CREATE EXTENSION IF NOT EXISTS {name} SCHEMA {quoted};"));
            } else {
                self.by_hand(&format!("CREATE EXTENSION {name} SCHEMA {quoted};"));
            }
        }
        Ok(!rows.is_empty())
    }

    fn by_hand(&mut self, what: &str) {
        self.by_hand.insert(comment(&format!("Needed before: {what}")));
    }

    /// Writes a comment where the script has come to.
    fn comment(&mut self, text: &str) {
        self.statements.push(comment(text));
    }

    /// Returns the comments that tell what must be made before, each in its line.
    pub fn comments(&self) -> String {
        self.by_hand.iter().map(|comment| format!("{comment}\n")).collect()
    }

    /// Returns the statements in their order.
    pub fn statements(self) -> Vec<String> {
        let schema = |name: &String| format!("CREATE SCHEMA IF NOT EXISTS {};", quote_identifier(name));
        let schemas = self.schemas.iter().map(schema).collect::<Vec<_>>();
        [schemas, self.extensions, self.statements].concat()
    }
}

/// Returns a comment. Names may have line breaks in them, after which it would not be one any more.
pub fn comment(text: &str) -> String {
    format!("-- {}", text.replace(['\n', '\r'], " "))
}
