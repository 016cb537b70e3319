//! Keeps pgrx's section of SQL in the library, as cargo-pgrx asks of the linker.
//!
//! cargo-pgrx would ask by flags for every crate, so that none of them could be used by `cargo test` as well.
//! `scripts/install` turns that off.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system != "macos") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
    }
}
