//! pg_table_export keeps tables of one database available in others, as read-only copies, by files.
//!
//! Read the modules in the order in which a change travels:
//!
//! a table is tracked (`track`); a statement's keys are captured (`capture`) into the table's shadow (`shadow`); an
//! export (`export`) takes what lies after a target's `position`, makes good what a `fork` has left in the store, and
//! writes a batch (`batch`) into a store (`store`); an import (`import`) applies it (`apply`) to the destination table, into
//! which it is merged (`merge`).
//!
//! Two floors carry this and never meet: `pg` is PostgreSQL, and the only place with `unsafe`; `batch` and `store` know
//! nothing of PostgreSQL. Only `std::io::Read` and `Write` pass between them.

#![warn(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::result_large_err, reason = "an error ends the call, so its size costs nothing that counts")]

#[cfg(not(panic = "unwind"))]
compile_error!("PostgreSQL's errors travel through Rust frames as panics: panic must be \"unwind\"");

mod api;

mod destination;
mod source;
mod upkeep;

mod catalog;
mod table;

mod pg;

mod error;
mod fault;
mod guc;

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
