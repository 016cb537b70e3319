//! pg_table_export keeps tables of one database available in others, as read-only copies, by files.
//!
//! The modules stand in the order in which a change travels:
//!
//! `api` is what SQL calls. In `source`, a table is tracked, a statement's keys are captured into the table's shadow, and
//! an export writes what lies after a target's position as a batch into a store. In `destination`, an import applies the
//! batch to the table there. `upkeep` compacts, expires and resets. They share `catalog`, the extension's own tables,
//! and `table`, what PostgreSQL's catalog says of a user's table.
//!
//! `pg` is PostgreSQL, and the only place with `unsafe`; the crates `batch` and `store` know nothing of PostgreSQL.
//! Only `std::io::Read` and `Write` pass between them.

#![warn(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::result_large_err, reason = "an error ends the call, so its size costs nothing that counts")]

#[cfg(not(panic = "unwind"))]
compile_error!("PostgreSQL's errors travel through Rust frames as panics: panic must be \"unwind\"");

mod api;

mod source;
mod destination;
mod upkeep;

mod catalog;
mod table;

mod pg;

mod error;
mod guc;
mod fault;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/members.sql", name = "members", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/triggers.sql", name = "triggers", requires = ["members"]);
pgrx::extension_sql_file!("../sql/protection.sql", name = "protection", requires = ["functions"]);
pgrx::extension_sql_file!(
    "../sql/views.sql",
    name = "views",
    requires = ["triggers", "protection"],
    finalize
);

/// Called when a backend loads the library.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    #[cfg(feature = "fault_points")]
    fault::define();
    guc::define();
    pg::cache::listen();
}
