//! Feeds arbitrary input to what reads a batch: `scripts/fuzz` runs every target in `fuzz_targets/`.
//!
//! `memory` is a store for many thousand batches in a second, `sample` holds batches that the writer wrote,
//! and `edit` damages them.

pub mod edit;
pub mod memory;
pub mod sample;
