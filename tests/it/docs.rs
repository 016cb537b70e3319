//! Every SQL block of README and docs runs, in the order in which a reader would type it; and every failure
//! that they name is one that a test provokes.
//!
//! A block says where it belongs: "```sql source", "```sql destination", and "cron" after it if it needs
//! pg_cron.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, Store};

/// One fenced block, and the words after its fence.
struct Block {
    words: Vec<String>,
    sql: String,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(project().join(page)).unwrap();
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("```sql") {
            let words = words.split_whitespace().map(str::to_owned).collect();
            let sql = lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n");
            blocks.push(Block { words, sql });
        }
    }
    blocks
}

fn run(page: &str, source: &Cluster, destination: &Cluster) -> usize {
    let blocks = blocks(page);
    for Block { words, sql } in &blocks {
        let side = match words.first().map(String::as_str) {
            Some("source") => source,
            Some("destination") => destination,
            _ => panic!("{page}: a block of SQL does not say where it runs:\n{sql}"),
        };
        // psql sends one statement at a time, as a reader would; any error fails the test.
        side.psql("postgres", sql);
    }
    blocks.len()
}

#[test]
fn all_sql_in_the_documentation_runs() {
    let store = Store::new();
    let location = format!("pg_table_export.store = '{}'", store.path().display());
    let settings = ["shared_preload_libraries = 'pg_cron'", "cron.use_background_workers = on", &location];
    let (source, destination) = (Cluster::start_with(&settings), Cluster::start_with(&settings));
    for side in [&source, &destination] {
        side.psql("postgres", "CREATE EXTENSION pg_cron");
    }
    assert!(run("README.md", &source, &destination) >= 7);
    assert!(run("docs/operations.md", &source, &destination) >= 4);
    assert!(run("docs/masks.md", &source, &destination) >= 7);
    assert_eq!(run("docs/design.md", &source, &destination), 0);
    assert_eq!(run("docs/format.md", &source, &destination), 0);
    let copied = destination.psql("postgres", "SELECT id FROM users");
    assert_eq!(copied.trim(), "1", "the README deletes one of two users");
    let masked = "SELECT string_agg(to_json(c)::text, ' ') || string_agg(to_json(o)::text, ' ')
                    FROM customers AS c, orders AS o";
    let masked = destination.psql("postgres", masked);
    assert!(masked.contains("1098\""), "what the view shows: {masked}");
    for original in ["anna", "ben@", "4929", "07-14", "99.90"] {
        assert!(!masked.contains(original), "{original}: {masked}");
    }
    let joined = "SELECT count(*) FROM orders AS o JOIN orders AS p USING (email) WHERE o.placed < p.placed";
    assert_eq!(destination.psql("postgres", joined).trim(), "1", "shifted alike");
}

/// What tests expect: golden answers, and the sources of the others.
fn expectations(folder: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.extension() {
            None if path.is_dir() => expectations(path),
            Some(extension) if extension == "out" || extension == "rs" => {
                vec![fs::read_to_string(path).unwrap()]
            }
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn every_failure_in_the_table_is_provoked_by_a_test() {
    let operations = fs::read_to_string(project().join("docs/operations.md")).unwrap();
    let table = operations.split("## When something is wrong").nth(1).expect("the table");
    let expectations = expectations(project().join("tests"));
    let mut messages = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let symptom = row.split(" | ").next().unwrap_or_default();
        for message in symptom.split('`').skip(1).step_by(2) {
            let parts = message.split('…').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>();
            let is_expected = |text: &String| parts.iter().all(|part| text.contains(part));
            assert!(expectations.iter().any(is_expected), "no test expects: {message}");
            messages += 1;
        }
    }
    assert!(messages > 15, "the table is elsewhere");
}
