//! What types are made of, where their name and modifier do not say how a text is read.
//!
//! Only what can change a value is in it. A constraint of a domain or a missing label of an enum refuses a
//! value, and never changes one.

use serde::{Deserialize, Serialize};

/// A type with its modifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Type {
    #[serde(rename = "type")]
    pub name: String,
    pub typmod: i32,
    pub definition: Option<Definition>,
}

/// What a type of the user is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    Enum,
    /// The type below a domain.
    Domain(Box<Type>),
    /// The attributes of a composite type, in order.
    Composite(Vec<Attribute>),
    /// The type of an array's elements.
    Array(Box<Type>),
    /// The type of a range's bounds.
    Range(Box<Type>),
    /// The type of a multirange's ranges.
    Multirange(Box<Type>),
}

/// One attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub typmod: i32,
    pub definition: Option<Definition>,
}

/// The names of the attributes of two composite types, in order.
pub type Attributes<'a> = (Vec<&'a str>, Vec<&'a str>);

impl Definition {
    /// Returns the attributes of the first composite types, here or in the types below, that stand in the
    /// same place and have different attributes. The text of one is read by the other into the wrong ones,
    /// and looks the same when it is written again.
    pub fn other_attributes<'a>(&'a self, other: &'a Definition) -> Option<Attributes<'a>> {
        match (self.below_domains()?, other.below_domains()?) {
            (Definition::Composite(ours), Definition::Composite(theirs)) => {
                let names =
                    |list: &'a [Attribute]| list.iter().map(|one| one.name.as_str()).collect::<Vec<_>>();
                let (our_names, their_names) = (names(ours), names(theirs));
                if our_names != their_names {
                    return Some((our_names, their_names));
                }
                ours.iter()
                    .zip(theirs)
                    .find_map(|(a, b)| a.definition.as_ref()?.other_attributes(b.definition.as_ref()?))
            }
            (Definition::Array(ours), Definition::Array(theirs))
            | (Definition::Range(ours), Definition::Range(theirs))
            | (Definition::Multirange(ours), Definition::Multirange(theirs)) => {
                ours.definition.as_ref()?.other_attributes(theirs.definition.as_ref()?)
            }
            _ => None,
        }
    }

    /// Says whether a range is in it. A definition does not have what orders the bounds of ranges, and joins
    /// those of a multirange: a collation, an operator class, the labels of an enum, a canonical function.
    pub fn has_range(&self) -> bool {
        match self {
            Definition::Enum => false,
            Definition::Range(_) | Definition::Multirange(_) => true,
            Definition::Domain(one) | Definition::Array(one) => {
                one.definition.as_ref().is_some_and(Definition::has_range)
            }
            Definition::Composite(attributes) => {
                attributes.iter().any(|one| one.definition.as_ref().is_some_and(Definition::has_range))
            }
        }
    }

    /// Renders it as JSON without white space, its fields in the order of the declarations here.
    pub fn to_json(&self) -> String {
        // Only a map whose keys are no texts, or a writer that fails, is an error.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns every text in it.
    pub(super) fn texts(&self) -> Vec<&String> {
        match self {
            Definition::Enum => Vec::new(),
            Definition::Composite(attributes) => {
                let each = attributes.iter().flat_map(|one| {
                    [&one.name, &one.type_name]
                        .into_iter()
                        .chain(one.definition.iter().flat_map(Definition::texts))
                });
                each.collect()
            }
            Definition::Domain(one)
            | Definition::Array(one)
            | Definition::Range(one)
            | Definition::Multirange(one) => {
                std::iter::once(&one.name).chain(one.definition.iter().flat_map(Definition::texts)).collect()
            }
        }
    }

    /// Returns what the type below all domains is made of.
    fn below_domains(&self) -> Option<&Definition> {
        match self {
            Definition::Domain(base) => base.definition.as_ref()?.below_domains(),
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn definition(json: &str) -> Definition {
        serde_json::from_str(json).unwrap()
    }

    fn attribute(name: &str, definition: &str) -> String {
        format!(r#"{{"name": "{name}", "type": "t", "typmod": -1, "definition": {definition}}}"#)
    }

    fn composite(attributes: &[String]) -> String {
        format!(r#"{{"composite": [{}]}}"#, attributes.join(", "))
    }

    fn within(kind: &str, definition: &str) -> String {
        format!(r#"{{"{kind}": {{"type": "t", "typmod": -1, "definition": {definition}}}}}"#)
    }

    #[test]
    fn attributes_in_another_order_are_found_at_any_depth() {
        let one = composite(&[attribute("city", "null"), attribute("zip", "null")]);
        let other = composite(&[attribute("zip", "null"), attribute("city", "null")]);
        let wraps: [&dyn Fn(&str) -> String; 5] = [
            &|below| below.to_owned(),
            &|below| within("array", below),
            &|below| within("domain", &within("array", &within("domain", below))),
            &|below| within("multirange", &within("range", below)),
            &|below| composite(&[attribute("a", "null"), attribute("home", below)]),
        ];
        for wrap in wraps {
            let (one, other) = (definition(&wrap(&one)), definition(&wrap(&other)));
            assert_eq!(one.other_attributes(&other), Some((vec!["city", "zip"], vec!["zip", "city"])));
            assert_eq!(one.other_attributes(&one), None);
        }
        let domain = definition(&within("domain", &one));
        assert_eq!(domain.other_attributes(&definition(&one)), None);
        assert!(domain.other_attributes(&definition(&other)).is_some());
        assert_eq!(domain.other_attributes(&Definition::Enum), None);
    }

    #[test]
    fn a_range_is_found_at_any_depth() {
        let range = within("range", "null");
        let wraps: [&dyn Fn(&str) -> String; 4] = [
            &|below| below.to_owned(),
            &|below| within("multirange", below),
            &|below| within("array", &within("domain", below)),
            &|below| composite(&[attribute("a", "null"), attribute("b", below)]),
        ];
        for wrap in wraps {
            assert!(definition(&wrap(&range)).has_range());
        }
        assert!(!definition(&composite(&[attribute("a", &within("array", "null"))])).has_range());
        assert!(!Definition::Enum.has_range());
    }
}
