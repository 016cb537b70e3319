//! pg_table_export keeps read-only copies of a database's tables in other databases, and sends the changes as
//! files.
//!
//! `api` holds the SQL functions, and calls `source`, `destination` and `upkeep`. `source` tracks tables,
//! and captures the keys that a statement changes. It exports the changes after a target's position. They
//! form one batch, which goes to a store. `destination` imports the batch into the tables there. `upkeep`
//! compacts, expires and resets. `proof` compares a table with what a store holds of it. All use `catalog`,
//! the extension's own tables, and `table`, which reads a user's table from PostgreSQL's catalog. `pg` calls
//! PostgreSQL's C functions, and only `pg` has `unsafe`. `error`, `guc` and `fault` are errors, settings, and
//! places where tests stop. The crates `batch` and `store` do not depend on PostgreSQL. They exchange data
//! with `pg` only through `Read` and `Write`. `signals` blocks signals in the threads that both sides start.

#![warn(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::result_large_err, reason = "an error ends the call, so its size does not matter")]

#[cfg(not(panic = "unwind"))]
compile_error!("PostgreSQL's errors travel through Rust frames as panics: panic must be \"unwind\"");

mod api;

mod source;
mod destination;
mod upkeep;

mod proof;

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
