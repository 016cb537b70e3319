//! The witness of a tracked table: what PostgreSQL's own catalog says of its members and triggers.
//!
//! Triggers and event triggers record changes, but can be disabled, dropped and made again, and their names
//! can change. The rows of PostgreSQL's catalog show that afterwards. Invariant: if a change can have escaped
//! the shadow between two exports, the witness of the second does not follow that of the first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg;
use crate::pg::query::in_snapshot;

/// What PostgreSQL's catalog says of a tracked table in one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The extension's trigger functions and event triggers, and who wrote them last.
    functions: Option<String>,
    /// What the text of values is made of beside the rows: the labels of enums, and the attributes of
    /// composite types by number. Of the types of columns, and of all that those are made of.
    names: BTreeMap<String, String>,
    /// The members, by oid.
    members: BTreeMap<String, Member>,
}

/// What PostgreSQL's catalog says of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// Its rows are rows of the tracked table.
    has_rows: bool,
    /// The parents of a partition, each with the transaction that has attached it.
    parents: Vec<(String, String)>,
    /// The capture triggers, each with the transaction that wrote it last.
    triggers: Vec<(String, String)>,
    /// pg_class.relfilenode
    storage: Option<String>,
    /// The expressions of virtual generated columns.
    computed: Option<String>,
    /// The columns, and who wrote them last.
    columns: Option<String>,
}

impl Witness {
    /// Says whether all changes of rows between an earlier witness and this one are in the shadow.
    ///
    /// A rewrite alone is no change: VACUUM FULL and CLUSTER give a table another storage as well. But those
    /// do not write its columns. A partition whose triggers are not of the transaction that attached it may
    /// have been written to before it had them. ALTER TYPE changes what is stored in no row: it gives a label
    /// another name, or an attribute that was made anew no values. New labels and attributes are in no row.
    pub fn follows(&self, before: &Witness) -> bool {
        let stays = |(relation, was): (&String, &Member)| match self.members.get(relation) {
            Some(is) => {
                is.has_rows == was.has_rows
                    && is.parents == was.parents
                    && is.triggers == was.triggers
                    && is.computed == was.computed
                    && (is.storage == was.storage || is.columns == was.columns)
            }
            None => !was.has_rows,
        };
        let is_new = |(relation, _): &(&String, &Member)| !before.members.contains_key(*relation);
        self.functions == before.functions
            && before.names.iter().all(|(object, name)| self.names.get(object) == Some(name))
            && before.members.iter().all(stays)
            && self.members.iter().filter(is_new).all(|(_, member)| member.came_with_triggers())
    }
}

impl Member {
    fn came_with_triggers(&self) -> bool {
        let attached_by = self.parents.first().map(|(_, xmin)| xmin);
        !self.has_rows || self.triggers.iter().all(|(_, xmin)| Some(xmin) == attached_by)
    }
}

/// Returns the witnesses of the tracked tables, by their ids, in the active snapshot.
pub fn witnesses() -> Result<BTreeMap<i32, Witness>> {
    let rows = in_snapshot(include_str!("witness.sql"), &[])?;
    Ok(rows.iter().map(|row| Ok((row.get(0)?, row.json(1)?))).collect::<Result<_, pg::Error>>()?)
}

#[cfg(test)]
mod tests {
    use super::{Member, Witness};

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    fn partition(attached_by: &str, triggers_by: &str) -> Member {
        Member {
            has_rows: true,
            parents: vec![pair("1", attached_by)],
            triggers: vec![pair("7", triggers_by)],
            storage: Some("5".to_owned()),
            computed: None,
            columns: Some("a".to_owned()),
        }
    }

    fn witness(members: &[(&str, Member)]) -> Witness {
        let members = members.iter().map(|(oid, member)| ((*oid).to_owned(), member.clone())).collect();
        Witness { functions: None, names: Default::default(), members }
    }

    #[test]
    fn a_partition_that_is_gone_was_a_change_and_an_ancestor_was_none() {
        let root = ("1", Member { parents: Vec::new(), ..partition("9", "9") });
        let ancestor = Member { has_rows: false, ..partition("9", "9") };
        let now = witness(std::slice::from_ref(&root));
        assert!(!now.follows(&witness(&[root.clone(), ("2", partition("9", "9"))])));
        assert!(now.follows(&witness(&[root, ("2", ancestor)])));
    }

    #[test]
    fn a_partition_must_come_with_its_triggers() {
        let before = witness(&[]);
        assert!(witness(&[("2", partition("9", "9"))]).follows(&before));
        assert!(!witness(&[("2", partition("9", "10"))]).follows(&before));
    }

    #[test]
    fn another_label_was_a_change_and_one_more_was_none() {
        let with = |names: &[(&str, &str)]| {
            let names = names.iter().map(|(object, name)| ((*object).to_owned(), (*name).to_owned()));
            Witness { names: names.collect(), ..Witness::default() }
        };
        let before = with(&[("label 1", "sad")]);
        assert!(!with(&[("label 1", "blue")]).follows(&before));
        assert!(!with(&[("label 2", "sad")]).follows(&before));
        assert!(with(&[("label 1", "sad"), ("label 2", "glad")]).follows(&before));
    }

    #[test]
    fn another_expression_of_a_virtual_column_was_a_change() {
        let with = |computed: &str| {
            let computed = Some(computed.to_owned());
            witness(&[("2", Member { computed, ..partition("9", "9") })])
        };
        assert!(with("7").follows(&with("7")));
        assert!(!with("8").follows(&with("7")));
    }

    #[test]
    fn a_rewrite_is_a_change_only_if_columns_were_written() {
        let before = witness(&[("2", partition("9", "9"))]);
        let with = |storage: &str, columns: &str| {
            let storage = Some(storage.to_owned());
            witness(&[("2", Member { storage, columns: Some(columns.to_owned()), ..partition("9", "9") })])
        };
        assert!(with("6", "a").follows(&before));
        assert!(with("5", "b").follows(&before));
        assert!(!with("6", "b").follows(&before));
    }
}
