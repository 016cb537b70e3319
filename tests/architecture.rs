//! The floors of the source tree: who may import whom, and where `unsafe` may be. Reads the sources as text.
//!
//! `pg` is PostgreSQL and the only place with `unsafe`; `batch` and `store` know nothing of PostgreSQL; only
//! `std::io::Read` and `Write` pass between them. `docs/design.md` gives the reasons.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate, and those that it may import.
const FLOORS: &[(&str, &[&str])] = &[
    // Ground. An error wraps those of the lower floors.
    ("guc", &["pg"]),
    ("error", &["batch", "store"]),
    // Both floors start threads.
    ("signals", &[]),
    // Two floors that never meet.
    ("pg", &["error", "signals"]),
    ("store", &["signals"]),
    ("batch", &["store"]),
    // What the stages share.
    ("fault", &["pg"]),
    ("position", &[]),
    ("shape", &["error", "pg"]),
    // It keeps the key that a tracked table had.
    ("catalog", &["error", "guc", "pg", "position", "shape"]),
    ("shadow", &["catalog", "error", "fault", "guc", "pg", "position", "shape"]),
    // The stages, in the order in which a change travels.
    ("track", &["catalog", "error", "pg", "shadow", "shape"]),
    ("capture", &["error", "pg", "shadow"]),
    ("fork", &["batch", "catalog", "error", "pg", "shadow", "shape", "store"]),
    ("restriction", &["catalog", "error", "pg", "reset", "shape", "track"]),
    // An export refuses what tracking would refuse, and makes forks good.
    (
        "export",
        &[
            "batch",
            "catalog",
            "error",
            "fault",
            "fork",
            "pg",
            "position",
            "restriction",
            "shadow",
            "shape",
            "store",
            "track",
        ],
    ),
    // Makes a table as tx_ddl writes it.
    ("destination", &["batch", "catalog", "ddl", "error", "pg", "shape"]),
    ("merge", &["batch", "error", "pg", "shape"]),
    ("apply", &["batch", "catalog", "destination", "error", "fault", "merge", "pg", "shape", "store"]),
    // Leaves a receipt before it begins.
    ("receipts", &["batch", "catalog", "error", "pg", "store"]),
    ("import", &["apply", "batch", "catalog", "error", "fault", "guc", "pg", "receipts", "store"]),
    // Beside the river.
    ("compact", &["batch", "error", "fault", "pg", "store"]),
    ("expire", &["batch", "catalog", "error", "pg", "store"]),
    ("ddl", &["catalog", "error", "pg", "shape"]),
    // Both lock a table as tracking does.
    ("mapping", &["catalog", "error", "pg", "shape", "track"]),
    ("protect", &["error", "pg", "shape", "track"]),
    ("prune", &["catalog", "error", "pg", "shadow", "shape"]),
    // Says of a table that is not tracked what tracking says of it.
    ("reset", &["batch", "catalog", "error", "pg", "shape", "store", "track"]),
    ("status", &["batch", "catalog", "error", "pg", "shadow", "store"]),
    // The surface.
    (
        "api",
        &[
            "apply",
            "batch",
            "capture",
            "compact",
            "ddl",
            "destination",
            "error",
            "expire",
            "export",
            "guc",
            "import",
            "mapping",
            "pg",
            "protect",
            "prune",
            "receipts",
            "reset",
            "restriction",
            "status",
            "store",
            "track",
        ],
    ),
    // Declares and initialises.
    ("lib", &[]),
];

/// One source file.
struct Source {
    path: PathBuf,
    /// The module right below the crate that it belongs to.
    module: String,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether it holds nothing but tests.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.components().any(|folder| folder.as_os_str() == "tests")
    }

    /// The lines that are code, without comments and texts, up to the tests; each with its number.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        let lines = (1..).zip(self.text.lines()).take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        lines.map(|(number, line)| (number, strip(line))).collect()
    }

    /// Where a text occurs in the code as a word.
    fn places_of(&self, word: &str) -> Vec<String> {
        let found = self.code().into_iter().filter(|(_, line)| words(line).any(|w| w == word));
        found.map(|(number, line)| format!("{}:{number}: {}", self.name(), line.trim())).collect()
    }
}

/// Leaves out what a line has in double quotes, and its comment. Texts of several lines are seldom enough.
fn strip(line: &str) -> String {
    let (mut code, mut quoted, mut escaped) = (String::new(), false, false);
    for (at, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !line[..at].ends_with('\'') => quoted = !quoted,
            '/' if !quoted && line[at..].starts_with("//") => break,
            _ if quoted => {}
            _ => code.push(character),
        }
    }
    code
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !character.is_alphanumeric() && character != '_')
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the sources") {
            let path = entry.expect("a source").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inner = path.strip_prefix(&root).expect("below the root").to_path_buf();
                let top = inner.iter().next().expect("a name").to_string_lossy();
                let module = top.trim_end_matches(".rs").to_owned();
                sources.push(Source { module, text: fs::read_to_string(&path).expect("UTF-8"), path: inner });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 20, "the sources are elsewhere");
    sources
}

#[track_caller]
fn assert_none(places: Vec<String>, what: &str) {
    assert!(places.is_empty(), "{what}:\n{}", places.join("\n"));
}

#[test]
fn unsafe_and_pg_sys_are_on_one_floor_only() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.module != "pg") {
        places.extend(source.places_of("unsafe"));
        // The type of an error, which pgrx keeps there, is harmless.
        let harmless = |place: &String| {
            ["api", "error"].contains(&source.module.as_str()) && place.contains("pgrx::pg_sys::panic::")
        };
        places.extend(source.places_of("pg_sys").into_iter().filter(|place| !harmless(place)));
    }
    assert_none(places, "only src/pg may touch PostgreSQL's C interface");
}

#[test]
fn batches_and_stores_know_nothing_of_postgresql() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| ["batch", "store"].contains(&source.module.as_str())) {
        for word in ["pgrx", "pg_sys", "pg"] {
            places.extend(source.places_of(word));
        }
    }
    assert_none(places, "src/batch and src/store must work without PostgreSQL");
}

/// The modules of the crate that a source imports or names.
fn imports(source: &Source) -> BTreeSet<String> {
    let code = source.code().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let mut imports = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            // use crate::{a, b::{c, d}};
            Some(list) => {
                let (mut depth, mut item) = (0, String::new());
                for character in list.chars() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => imports.extend(
                            words(&std::mem::take(&mut item)).find(|w| !w.is_empty()).map(str::to_owned),
                        ),
                        _ if depth == 0 => item.push(character),
                        _ => {}
                    }
                }
                imports.extend(words(&item).find(|word| !word.is_empty()).map(str::to_owned));
            }
            None => imports.extend(words(rest).next().map(str::to_owned)),
        }
    }
    imports.remove(&source.module);
    imports
}

#[test]
fn every_module_imports_only_what_it_may() {
    let mut places = Vec::new();
    for source in sources() {
        let floor = FLOORS.iter().find(|(module, _)| *module == source.module);
        let Some((_, allowed)) = floor else {
            places.push(format!("{} is on no floor", source.name()));
            continue;
        };
        for import in imports(&source) {
            if !allowed.contains(&import.as_str()) {
                places.push(format!("{} imports {import}", source.name()));
            }
        }
    }
    assert_none(places, "not allowed");
}

#[test]
fn every_permission_is_used() {
    let sources = sources();
    let mut places = Vec::new();
    for (module, allowed) in FLOORS {
        let of_module = sources.iter().filter(|source| source.module == *module);
        let used = of_module.flat_map(imports).collect::<BTreeSet<_>>();
        places.extend(
            allowed
                .iter()
                .filter(|import| !used.contains(**import))
                .map(|import| format!("{module} does not import {import}")),
        );
    }
    assert_none(places, "allowed for nothing");
}

#[test]
fn nothing_panics_outside_of_tests() {
    let mut places = Vec::new();
    for source in sources() {
        for word in ["unwrap", "panic", "todo", "unimplemented", "dbg", "println", "eprintln"] {
            let calls = source
                .places_of(word)
                .into_iter()
                .filter(|place| place.contains(&format!("{word}(")) || place.contains(&format!("{word}!")));
            places.extend(calls);
        }
    }
    assert_none(places, "errors are values");
}

#[test]
fn every_file_says_what_it_holds() {
    // A file of tests is declared beside what it tests.
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//!"));
    assert_none(silent.map(|source| source.name()).collect(), "no //! at the top");
    let long = sources()
        .into_iter()
        .filter(|source| source.text.lines().take_while(|line| line.starts_with("//!")).count() > 12);
    assert_none(long.map(|source| source.name()).collect(), "more than twelve lines of //!");
}

#[test]
fn every_public_function_says_what_it_does() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let mut documented = false;
        for (number, line) in
            (1..).zip(source.text.lines()).take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        {
            let line = line.trim();
            if line.starts_with("///") {
                documented = true;
            } else if ["pub fn", "pub struct", "pub enum", "pub trait", "pub const fn"]
                .iter()
                .any(|start| line.starts_with(start))
            {
                if !documented {
                    places.push(format!("{}:{number}: {line}", source.name()));
                }
                documented = false;
            } else if !line.starts_with("#[") && !line.ends_with(")]") {
                documented = false;
            }
        }
    }
    assert_none(places, "no /// above");
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.module == "pg") {
        let lines = source.text.lines().collect::<Vec<_>>();
        for (number, line) in source.code() {
            // Declarations and function types make no promise to PostgreSQL.
            let is_block = line.contains("unsafe {") && !line.contains("extern");
            let mut above = lines[..number - 1].iter().rev().map(|line| line.trim()).take(12);
            if is_block && !line.contains("SAFETY") && !above.any(|line| line.starts_with("// SAFETY:")) {
                places.push(format!("{}:{number}: {}", source.name(), line.trim()));
            }
        }
    }
    assert_none(places, "no SAFETY comment above");
}

#[test]
fn the_map_names_every_stage_in_order() {
    let lib = sources().into_iter().find(|source| source.module == "lib").expect("lib.rs");
    let head = lib.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    let stages =
        ["track", "capture", "shadow", "export", "position", "fork", "batch", "store", "import", "apply"];
    let places = stages.map(|stage| head.find(&format!("`{stage}`")));
    assert!(places.iter().all(Option::is_some), "{stages:?}: {places:?}");
    assert!(places.is_sorted(), "{stages:?}: {places:?}");
}
