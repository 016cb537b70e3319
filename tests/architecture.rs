//! The rules of the source tree: which folder may import which, and where `unsafe` may be. Reads the sources
//! as text.
//!
//! The crates `batch`, `store` and `signals` need no rule here: without pgrx among their dependencies the
//! compiler keeps PostgreSQL out of them. `docs/design.md` gives the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files of `src`, and which of them each may import. `docs/design.md` has the same table.
const RULES: &[(&str, &[&str])] = &[
    ("api", &["source", "destination", "upkeep", "proof", "pg", "error", "guc"]),
    ("source", &["proof", "catalog", "table", "pg", "error", "guc", "fault"]),
    ("destination", &["proof", "catalog", "table", "pg", "error", "guc", "fault"]),
    ("upkeep", &["catalog", "table", "pg", "error", "guc", "fault"]),
    ("proof", &["catalog", "table", "pg", "error"]),
    ("catalog", &["table", "pg", "error", "guc"]),
    ("table", &["pg", "error"]),
    ("pg", &[]),
    ("error", &["pg"]),
    ("guc", &["pg"]),
    ("fault", &["pg"]),
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
    let sources = sources_below("src");
    assert!(sources.len() > 20, "the sources are elsewhere");
    sources
}

fn sources_below(root: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
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
fn only_the_catalog_queries_our_tables() {
    let names = [
        "tracked",
        "target",
        "batch",
        "receipt",
        "restriction",
        "copy",
        "mapping",
        "proof",
        "member",
        "create_",
        "drop_",
    ];
    let is_named = |line: &str| {
        let named = |name: &&str| line.contains(&format!(" table_export.{name}"));
        names.iter().any(named) && !line.trim_start().starts_with("//")
    };
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.module != "catalog") {
        let lines = (1..).zip(source.text.lines()).filter(|(_, line)| is_named(line));
        places.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.name(), line.trim())));
    }
    assert_none(places, "only src/catalog may query the tables of schema table_export");
}

/// The modules of the crate that a source imports or names.
fn imports(source: &Source) -> BTreeSet<String> {
    let code = source.code().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let paths = code.match_indices("crate::").flat_map(|(at, _)| expand(&code[at + "crate::".len()..]));
    let modules = paths.filter_map(|path| words(&path).next().map(str::to_owned));
    let mut imports = modules.filter(|module| !module.is_empty()).collect::<BTreeSet<_>>();
    imports.remove(&source.module);
    imports
}

#[test]
fn every_folder_imports_only_what_it_may() {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let rule = RULES.iter().find(|(folder, _)| *folder == source.module);
        let Some((_, allowed)) = rule else {
            places.push(format!("{} has no rule", source.name()));
            continue;
        };
        let refused = imports(source).into_iter().filter(|import| !allowed.contains(&import.as_str()));
        places.extend(refused.map(|import| format!("{} imports {import}", source.name())));
    }
    assert_none(places, "not allowed");
}

#[test]
fn every_permission_is_used() {
    let sources = sources();
    let mut places = Vec::new();
    for (folder, allowed) in RULES {
        let used = sources.iter().filter(|source| source.module == *folder).flat_map(imports);
        let used = used.collect::<BTreeSet<_>>();
        let unused = allowed.iter().filter(|import| !used.contains(**import));
        places.extend(unused.map(|import| format!("{folder} does not import {import}")));
    }
    assert_none(places, "allowed for nothing");
}

#[test]
fn the_design_has_the_same_rules() {
    let design =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design.md")).expect("UTF-8");
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = design.lines().filter_map(|line| {
        let cells = line.split('|').map(str::trim).collect::<Vec<_>>();
        let [_, folder, imports, _, _] = cells.as_slice() else { return None };
        let folder = folder.strip_prefix("`src/")?.trim_end_matches(['`', '/']).trim_end_matches(".rs");
        Some((folder.to_owned(), names(imports)))
    });
    let rules = RULES.iter().map(|(folder, imports)| {
        ((*folder).to_owned(), imports.iter().map(|import| (*import).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(rows.collect::<Vec<_>>(), rules.collect::<Vec<_>>(), "docs/design.md, the table of folders");
}

/// The files that a file imports; a folder's own `mod.rs` declares its files, which is no import.
fn imported_files(source: &Source, files: &BTreeSet<String>) -> BTreeSet<String> {
    let code = source.code().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let imports = |prefix: &str| {
        code.match_indices(prefix).flat_map(|(at, _)| expand(&code[at + prefix.len()..])).collect::<Vec<_>>()
    };
    let is_folder = source.path.ends_with("mod.rs");
    let parent = source.path.parent().and_then(|path| if is_folder { path.parent() } else { Some(path) });
    let parent = parent.map(|path| path.display().to_string()).unwrap_or_default();
    let in_parent = |path: String| if parent.is_empty() { path } else { format!("{parent}::{path}") };
    let paths = imports("crate::").into_iter().chain(imports("super::").into_iter().map(in_parent));
    let file_of = |path: String| {
        let path = path.replace("::", "/");
        let mut parts = path.split('/').collect::<Vec<_>>();
        while !parts.is_empty() {
            let (file, folder) = (format!("{}.rs", parts.join("/")), format!("{}/mod.rs", parts.join("/")));
            if let Some(found) = [file, folder].into_iter().find(|file| files.contains(file)) {
                return Some(found);
            }
            parts.pop();
        }
        None
    };
    let mut imported = paths.filter_map(file_of).collect::<BTreeSet<_>>();
    imported.remove(&source.name());
    imported
}

/// The paths of an import: `a::{b, c::d};` is `a::b` and `a::c::d`.
fn expand(import: &str) -> Vec<String> {
    let end = import.find(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).unwrap_or(import.len());
    let prefix = &import[..end];
    let Some(list) = import[end..].strip_prefix('{') else { return vec![prefix.to_owned()] };
    let (mut depth, mut items, mut start) = (0, Vec::new(), 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items.into_iter().flat_map(expand).map(|item| format!("{prefix}{item}")).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for root in ["src", "crates/batch/src", "crates/store/src"] {
        let sources = sources_below(root);
        let files = sources.iter().map(Source::name).collect::<BTreeSet<_>>();
        let imports = sources.iter().map(|source| (source.name(), imported_files(source, &files)));
        let mut imports = imports.collect::<BTreeMap<_, _>>();
        // What imports nothing that is left is in no circle.
        while let Some(file) = imports.iter().find(|(_, of)| of.is_empty()).map(|(file, _)| file.clone()) {
            imports.remove(&file);
            imports.values_mut().for_each(|of| {
                of.remove(&file);
            });
        }
        let circle = imports.into_iter().map(|(file, of)| format!("{root}/{file}: {of:?}"));
        assert_none(circle.collect(), "in a circle");
    }
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

/// The functions of more than 60 lines: each ends at the brace that stands below its first word.
fn long_functions(source: &Source) -> Vec<String> {
    let (mut places, mut begun) = (Vec::new(), None);
    for (number, line) in source.code() {
        let indent = line.len() - line.trim_start().len();
        if words(&line).any(|word| word == "fn") && line.ends_with(['{', '(']) {
            begun = Some((number, indent));
        }
        if let Some((first, _)) = begun.filter(|(_, at)| line.trim_end() == format!("{}}}", " ".repeat(*at)))
        {
            if number - first >= 60 {
                places.push(format!("{}:{first}: {} lines", source.name(), number - first + 1));
            }
            begun = None;
        }
    }
    places
}

#[test]
fn no_file_no_function_and_no_line_is_long() {
    let mut places = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")).expect("a folder") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("UTF-8");
        let wide = (1..).zip(text.lines()).filter(|(_, line)| line.chars().count() > 110);
        places.extend(wide.map(|(number, _)| format!("{}:{number}: more than 110 columns", path.display())));
    }
    for root in ["src", "crates/batch/src", "crates/store/src", "crates/signals/src"] {
        for source in sources_below(root) {
            let name = format!("{root}/{}", source.name());
            if source.code().len() > 450 {
                places.push(format!("{name}: {} lines", source.code().len()));
            }
            places.extend(long_functions(&source));
            let comments = (1..).zip(source.text.lines()).filter(|(_, line)| line.trim().starts_with("//"));
            let wide = comments.filter(|(_, line)| line.chars().count() > 110);
            places.extend(wide.map(|(number, _)| format!("{name}:{number}: more than 110 columns")));
        }
    }
    assert_none(places, "too long");
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
fn the_map_lists_the_modules_in_the_order_of_the_rules() {
    let lib = sources().into_iter().find(|source| source.module == "lib").expect("lib.rs");
    let modules = lib.code().into_iter().filter_map(|(_, line)| {
        line.strip_prefix("mod ").map(|module| module.trim_end_matches(';').to_owned())
    });
    let folders = RULES.iter().map(|(folder, _)| (*folder).to_owned());
    assert_eq!(modules.collect::<Vec<_>>(), folders.collect::<Vec<_>>());
}
