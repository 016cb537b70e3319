//! The errors that PostgreSQL itself raises for want of something, or where a server may not be written to:
//! what a golden file cannot do with one server. The page errors_of_postgres.txt has them as a user sees them;
//! with ACCEPT=1 in the environment, what the servers say becomes what is expected.

use std::env;
use std::fs;

use crate::cluster::database::Database;
use crate::cluster::disk::SmallDisk;
use crate::cluster::{Cluster, SOURCE, Store};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/errors_of_postgres.txt");

/// Runs a statement that fails, and returns how psql shows it.
fn shown(title: &str, database: &Database, statement: &str, store: &Store) -> String {
    let mut client = database.client();
    let error = client.batch_execute(statement).expect_err(title);
    let error = error.as_db_error().expect("an error of the server");
    let further = [("DETAIL", error.detail()), ("HINT", error.hint()), ("CONTEXT", error.where_())];
    let mut text = format!("{title}\n{statement};\nERROR:  {}\n", error.message());
    for (label, line) in further.iter().filter_map(|(label, line)| Some((label, line.as_ref()?))) {
        text += &format!("{label}:  {line}\n");
    }
    without_numbers(&text.replace(&store.path().display().to_string(), "/store")) + "\n"
}

/// Leaves out OIDs and ids, which differ each time.
fn without_numbers(text: &str) -> String {
    let is_of_number = |c: char| c == '-' || c.is_ascii_hexdigit();
    let mut shown = String::new();
    for piece in text.split_inclusive(|c| !is_of_number(c)) {
        let number = piece.trim_end_matches(|c| !is_of_number(c));
        let is_number = number.len() > 4 && number.contains(|c: char| c.is_ascii_digit());
        shown += if is_number { "N" } else { number };
        shown += &piece[number.len()..];
    }
    shown
}

fn compare(page: &str) {
    if env::var_os("ACCEPT").is_some() {
        fs::write(PAGE, page).expect("the page");
    }
    assert_eq!(page, fs::read_to_string(PAGE).expect("the page"));
}

fn out_of_disk() -> Option<String> {
    let (disk, store) = (SmallDisk::mount()?, Store::new());
    let source = Database::source(&SOURCE, "wants_disk", &disk.0);
    source.run(
        "INSERT INTO items SELECT i, (SELECT string_agg(md5(i || '/' || j), '')
                                        FROM generate_series(1, 20) AS j), i
           FROM generate_series(1000, 6000) AS i",
    );
    let mut page = shown("An export: the store's disk is full.", &source, &source.export_sql(), &disk.0);

    let source = source.with_store(&store);
    source.export();
    let destination = Database::destination(&SOURCE, "wants_disk_copy", &store);
    let tablespace = format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.path().display());
    SOURCE.psql("postgres", &tablespace);
    destination.run("ALTER TABLE items SET TABLESPACE small");
    page += &shown("An import: the server's disk is full.", &destination, &destination.import_sql(), &store);
    destination.run("DROP TABLE items");
    SOURCE.psql("postgres", "DROP TABLESPACE small");
    Some(page)
}

fn out_of_locks() -> String {
    let (cluster, store) = (Cluster::start_with_few_locks(), Store::new());
    let source = Database::source(&SOURCE, "wants_locks", &store);
    source.run("INSERT INTO items SELECT i, 'x', i FROM generate_series(1000, 2000) AS i");
    source.export();
    let destination = Database::destination(&cluster, "wants_locks_copy", &store);
    destination.run("DROP TABLE items; CREATE TABLE items (id int PRIMARY KEY, note text, amount numeric(12,2)) PARTITION BY RANGE (id)");
    for i in 0..300 {
        let (from, to) = (if i == 0 { -1000 } else { i * 10 }, (i + 1) * 10);
        destination
            .run(&format!("CREATE TABLE items_{i} PARTITION OF items FOR VALUES FROM ({from}) TO ({to})"));
    }
    shown("An import: no room in the lock table.", &destination, &destination.import_sql(), &store)
}

fn not_to_be_written_to() -> String {
    let (primary, store) = (Cluster::start(), Store::new());
    let source = Database::source(&primary, "shop", &store);
    source.export();
    Database::destination(&primary, "copy", &store);
    let standby = primary.standby();
    standby.catch_up(&primary);
    let [shop, copy] = ["shop", "copy"].map(|name| Database::of(&standby, name, &store));
    let mut page = shown("An export: the server is in recovery.", &shop, &shop.export_sql(), &store);
    page += &shown("An import: the server is in recovery.", &copy, &copy.import_sql(), &store);
    let [shop, copy] = ["shop", "copy"].map(|name| Database::of(&primary, name, &store));
    for database in [&shop, &copy] {
        let name = database.text("SELECT current_database()");
        database.run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    }
    page += &shown("An export: transactions are read-only.", &shop, &shop.export_sql(), &store);
    page + &shown("An import: transactions are read-only.", &copy, &copy.import_sql(), &store)
}

#[test]
fn errors_for_want_of_something_are_on_one_page() {
    let Some(out_of_disk) = out_of_disk() else { return };
    compare(&(out_of_disk + &out_of_locks() + &not_to_be_written_to()));
}
