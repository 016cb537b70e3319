//! What reads a batch, given what nobody has thought of: `tests/fuzz` runs every target in `fuzz_targets/`.
//!
//! `batch`, `signals` and `store` are the extension's own sources, which must build here, without PostgreSQL. `memory` is
//! a store for many thousand batches in a second, `sample` holds batches that the writer wrote, and `edit` damages
//! them.

#[path = "../../src/batch/mod.rs"]
pub mod batch;
pub mod edit;
pub mod memory;
pub mod sample;
#[path = "../../src/signals.rs"]
pub mod signals;
#[path = "../../src/store/mod.rs"]
pub mod store;
