//! The SQL surface: the functions that SQL calls. `sql/functions.sql` declares them by the names of their C
//! symbols.
//!
//! Arguments come in and rows go out; the folders `source`, `destination` and `upkeep` do the work. A file
//! here holds the functions of the folder with the same name; `health` and `verify` ask both sides. Each
//! function but the capture trigger begins with a [`call::Call`].

#![allow(clippy::type_complexity, reason = "pgrx reads the names of the columns from the signature")]

mod error;
mod source;
mod destination;
mod upkeep;
mod health;
mod verify;

mod arguments;
mod call;
