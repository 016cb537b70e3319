//! Arguments of SQL functions are checked here, and become values of Rust; durations and instants of results
//! become values of SQL.
//!
//! Invariant: a value that is not allowed becomes an error that names the argument and says what is allowed.

use std::time::Duration;

use pgrx::datum::{Interval, TimestampWithTimeZone};

use crate::api::error::CallError;
use crate::error::{Result, Shared};
use crate::guc;

/// Returns the choice that has a name. Refuses null, and a name that none has.
pub fn choice<T: Copy, const N: usize>(
    argument: &'static str,
    value: Option<&str>,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T> {
    let value = required(argument, value)?;
    let refused =
        || Shared::Argument { argument, value: value.to_owned(), allowed: all.map(name).join(", ").into() };
    Ok(all.into_iter().find(|&choice| name(choice) == value).ok_or_else(refused)?)
}

/// Refuses null where a value is needed. The functions are not STRICT, because a STRICT function does nothing
/// for a null, and says nothing about it.
pub fn required<T>(argument: &'static str, value: Option<T>) -> Result<T> {
    Ok(value.ok_or(CallError::NullArgument { argument })?)
}

/// Refuses null and the empty string as the name of a target.
pub fn target_name(target: Option<&str>) -> Result<&str> {
    match required("target", target)? {
        "" => Err(Shared::Argument {
            argument: "target",
            value: String::new(),
            allowed: "any name, such as host/database".into(),
        }
        .into()),
        target => Ok(target),
    }
}

/// Refuses a negative limit.
pub fn parse_limit(argument: &'static str, limit: i32) -> Result<u64> {
    Ok(u64::try_from(limit).map_err(|_| Shared::Argument {
        argument,
        value: limit.to_string(),
        allowed: "0 or more".into(),
    })?)
}

/// Returns the limit on the rows of a table that may be deleted, in percent: that of the settings, unless the
/// argument gives one.
pub fn parse_delete_limit(limit: Option<i32>) -> Result<u32> {
    limit.map_or_else(|| Ok(guc::delete_limit()), |limit| parse_percentage("delete_limit", limit))
}

/// Refuses a percentage outside of 0 to 100.
fn parse_percentage(argument: &'static str, percentage: i32) -> Result<u32> {
    let refused = || Shared::Argument {
        argument,
        value: percentage.to_string(),
        allowed: "0 to 100, in percent".into(),
    };
    Ok(u32::try_from(percentage).ok().filter(|&percentage| percentage <= 100).ok_or_else(refused)?)
}

/// Refuses the number of a batch below 1.
pub fn parse_number(argument: &'static str, number: Option<i64>) -> Result<Option<u64>> {
    let refused =
        |number: i64| Shared::Argument { argument, value: number.to_string(), allowed: "1 or more".into() };
    let parse =
        |number| u64::try_from(number).ok().filter(|&number| number > 0).ok_or_else(|| refused(number));
    Ok(number.map(parse).transpose()?)
}

/// Returns an age in microseconds; refuses a negative one.
pub fn parse_age(age: Interval) -> Result<u64> {
    let micros = age.as_micros();
    Ok(u64::try_from(micros).map_err(|_| Shared::Argument {
        argument: "older_than",
        value: format!("{} s", micros / 1_000_000),
        allowed: "no negative interval".into(),
    })?)
}

/// Parses an instant of a manifest; `None` if it is outside of the range of PostgreSQL's type.
pub fn time(text: &str) -> Option<TimestampWithTimeZone> {
    text.parse().ok()
}

/// Returns milliseconds with three decimals.
pub fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1000.0
}
