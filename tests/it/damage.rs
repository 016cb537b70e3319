//! Stores that misbehave, and batches that are not what was published: each is refused with an error that
//! names the file, nothing changes at the destination, and after mending the import goes on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::cluster::database::{Database, TARGET, query, refusal};
use crate::cluster::disk::SmallDisk;
use crate::cluster::{Cluster, Store};
use postgres::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// A store with a full batch, which the destination has, and two batches of changes, which it has not.
struct Golden {
    store: Store,
    source: Database,
    destination: Database,
}

impl Golden {
    fn new(name: &str, format: &str, compression: &str) -> Golden {
        let store = Store::new();
        let source = Database::source(&SHARED, name, &store);
        let destination = Database::destination(&SHARED, &format!("{name}_copy"), &store);
        let export = format!(
            "SELECT * FROM tx_export('{TARGET}', store => '{}', format => '{format}', compression => '{compression}')",
            store.url()
        );
        source.run(&export);
        destination.import();
        for batch in [2, 3] {
            source.run(&format!("UPDATE items SET note = repeat('batch {batch} ', 30), amount = id; DELETE FROM lines WHERE item = {batch}"));
            source.insert(batch * 100..batch * 100 + 50);
            source.run(&export);
        }
        Golden { store, source, destination }
    }

    /// Returns the destination with a copy of the store that something has been done to.
    fn damaged(&self, damage: impl FnOnce(&Path)) -> (Store, Database) {
        let store = self.store.copy();
        damage(store.path());
        let destination = self.destination.with_store(&store);
        (store, destination)
    }

    /// Makes sure that the import of a damaged store is refused, and goes on when the damaged file is whole
    /// again.
    #[track_caller]
    fn refuses(&self, damage: impl FnOnce(&Path), sqlstate: &str, texts: &[&str]) {
        if let Err(problem) = self.try_refuse(damage, sqlstate, texts) {
            panic!("{problem}");
        }
    }

    fn try_refuse(&self, damage: impl FnOnce(&Path), sqlstate: &str, texts: &[&str]) -> Result<(), String> {
        let (store, _) = self.damaged(damage);
        self.try_refuse_store(&store, sqlstate, texts)
    }

    /// Imports from a damaged store, and says what is wrong with the answer.
    fn try_refuse_store(&self, store: &Store, sqlstate: &str, texts: &[&str]) -> Result<(), String> {
        let destination = self.destination.with_store(store);
        let mut client = destination.client();
        let before = state(&mut client);
        let answer = query(&mut client, &destination.import_sql());
        if state(&mut client) != before {
            return Err(format!("the destination has changed: {answer:?}"));
        }
        let refusal = match answer {
            Ok(rows) => return Err(format!("not refused: {rows}")),
            Err(error) => refusal(&error),
        };
        let all = refusal.to_string();
        let missing = texts.iter().filter(|text| !all.contains(**text)).collect::<Vec<_>>();
        if refusal.sqlstate != sqlstate || !missing.is_empty() {
            return Err(format!("expected {sqlstate} with {missing:?}, got {all}"));
        }
        Ok(())
    }

    /// Imports all from a store, and undoes it, so that the next case starts where this one did.
    fn imports_from(&self, store: &Store) {
        let destination = self.destination.with_store(store);
        let mut client = destination.client();
        client.batch_execute("BEGIN").expect("a transaction");
        query(&mut client, &destination.import_sql()).unwrap_or_else(|error| panic!("{}", refusal(&error)));
        for table in ["items", "lines"] {
            let rows = format!("SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM {table} AS t");
            assert_eq!(
                query(&mut client, &rows).ok(),
                query(&mut self.source.client(), &rows).ok(),
                "{table}"
            );
        }
    }

    /// The path of the manifest of batch 2.
    fn manifest(&self) -> PathBuf {
        PathBuf::from(format!("{TARGET}/manifest/0000000002.json"))
    }

    /// The paths of the files of a batch, in order.
    fn files(&self, batch: u32) -> Vec<PathBuf> {
        let folder = format!("{TARGET}/data/{batch:010}");
        self.store.files().into_iter().filter(|file| file.starts_with(&folder)).collect()
    }

    /// The path of one file of batch 2, given by how it ends.
    fn file(&self, suffix: &str) -> PathBuf {
        let found = self.files(2).into_iter().find(|file| file.ends_with(suffix));
        found.unwrap_or_else(|| panic!("no file {suffix}"))
    }

    /// Makes sure that batch 2 is refused after an edit of its manifest.
    #[track_caller]
    fn refuses_manifest(&self, edit: impl FnOnce(&mut Value), sqlstate: &str, texts: &[&str]) {
        let damage = |store: &Path| edit_manifest(&store.join(self.manifest()), edit);
        self.refuses(damage, sqlstate, texts);
    }
}

/// All that an import could change.
fn state(client: &mut Client) -> String {
    let all = "SELECT 'items', t::text FROM items AS t UNION ALL SELECT 'lines', t::text FROM lines AS t
               UNION ALL SELECT 'receipt', t::text FROM table_export.receipt AS t
               UNION ALL SELECT 'objects', count(*) || ' ' || sum(oid::int8) FROM pg_class ORDER BY 1, 2";
    query(client, all).unwrap_or_else(|error| panic!("{}", refusal(&error)))
}

fn edit_manifest(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut manifest = serde_json::from_slice(&fs::read(path).expect("the manifest")).expect("JSON");
    edit(&mut manifest);
    fs::write(path, serde_json::to_vec_pretty(&manifest).expect("JSON")).expect("the manifest");
}

fn edit_file(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file");
    edit(&mut bytes);
    fs::write(path, bytes).expect("the file");
}

fn swap(a: &Path, b: &Path) {
    let (content_a, content_b) = (fs::read(a).expect("the file"), fs::read(b).expect("the file"));
    fs::write(a, content_b).expect("the file");
    fs::write(b, content_a).expect("the file");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

// Damage to files

/// Damages every file of batch 2 in every way, and reports all that was not refused as it should be.
fn every_file_is_checked(format: &str, compression: &str) {
    let golden = Golden::new(&format!("files_{format}_{compression}"), format, compression);
    golden.imports_from(&golden.store);
    let mut problems = Vec::new();
    let store = golden.store.copy();
    for file in golden.files(2) {
        let name = text(&file);
        let path = store.path().join(&file);
        let whole = fs::read(&path).expect("the file");
        let length = whole.len();
        let mut check = |what: String, sqlstate: &str, damage: &dyn Fn(&Path)| {
            damage(&path);
            if let Err(problem) = golden.try_refuse_store(&store, sqlstate, &[name]) {
                problems.push(format!("{name}, {what}: {problem}"));
            }
            let aside = path.with_extension("aside");
            if aside.exists() {
                fs::rename(aside, &path).expect("the file");
            }
            fs::write(&path, &whole).expect("the file");
        };
        check("missing".into(), "58P01", &|path| {
            fs::rename(path, path.with_extension("aside")).expect("the file")
        });
        let mut truncations = vec![0, length / 2, length - 1];
        truncations.dedup();
        for left in truncations {
            check(format!("truncated to {left} of {length}"), "XX001", &|path| {
                edit_file(path, |bytes| bytes.truncate(left));
            });
        }
        for more in [&b"\0"[..], b"\n", b"1\t2\n", b"\\.\n"] {
            check(format!("longer by {more:?}"), "XX001", &|path| {
                edit_file(path, |bytes| bytes.extend(more))
            });
        }
        check("doubled".into(), "XX001", &|path| edit_file(path, |bytes| bytes.extend(bytes.clone())));
        for place in 0..16 {
            let (byte, bit) = (place * (length - 1) / 15, place % 8);
            check(format!("bit {bit} of byte {byte} of {length} flipped"), "XX001", &|path| {
                edit_file(path, |bytes| bytes[byte] ^= 1 << bit);
            });
        }
        check("all zero".into(), "XX001", &|path| edit_file(path, |bytes| bytes.fill(0)));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n\n"));
    golden.imports_from(&store);
}

#[test]
fn every_file_of_a_text_batch_is_checked() {
    every_file_is_checked("text", "zstd");
}

#[test]
fn every_file_of_an_uncompressed_text_batch_is_checked() {
    every_file_is_checked("text", "none");
}

#[test]
fn every_file_of_a_binary_batch_is_checked() {
    every_file_is_checked("binary", "zstd");
}

#[test]
fn every_file_of_an_uncompressed_binary_batch_is_checked() {
    every_file_is_checked("binary", "none");
}

#[test]
fn every_file_of_a_csv_batch_is_checked() {
    every_file_is_checked("csv", "zstd");
}

#[test]
fn every_file_of_an_uncompressed_csv_batch_is_checked() {
    every_file_is_checked("csv", "none");
}

#[test]
fn files_swapped_between_tables_or_batches_are_refused() {
    for compression in ["zstd", "none"] {
        let golden = Golden::new(&format!("swapped_{compression}"), "text", compression);
        let mut problems = Vec::new();
        for (second, third) in golden.files(2).iter().zip(golden.files(3)) {
            let other_table = PathBuf::from(
                text(second).replace("items", "LINES").replace("lines", "items").replace("LINES", "lines"),
            );
            for (what, other) in [("table", &other_table), ("batch", &third)] {
                // The columns of a table are the same in both batches.
                if what == "batch" && text(second).ends_with("columns") {
                    continue;
                }
                let damage = |store: &Path| swap(&store.join(second), &store.join(other));
                // Which of the two is met first is not ours to say.
                if let Err(problem) = golden.try_refuse(damage, "XX001", &["0000000002/", "is damaged"]) {
                    problems.push(format!("{}, other {what}: {problem}", second.display()));
                }
            }
        }
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n\n"));
    }
}

// Damage to the chain

#[test]
fn a_gap_in_the_chain_is_refused() {
    let golden = Golden::new("gap", "text", "zstd");
    golden.refuses(
        |store| fs::remove_file(store.join(golden.manifest())).expect("the manifest"),
        "55000",
        &["batch 2 of target \"reporting\" is missing", "batch 3", "SELECT tx_reset('reporting')"],
    );
    golden.imports_from(&golden.store);
}

#[test]
fn a_batch_in_the_place_of_another_is_refused() {
    let golden = Golden::new("place", "text", "zstd");
    let third = golden.manifest().with_file_name("0000000003.json");
    golden.refuses(
        |store| fs::rename(store.join(&third), store.join(golden.manifest())).expect("the manifest"),
        "XX001",
        &[text(&golden.manifest()), "batch 3 of target \"reporting\""],
    );
    golden.refuses(
        |store| swap(&store.join(&third), &store.join(golden.manifest())),
        "XX001",
        &[text(&golden.manifest())],
    );
}

#[test]
fn a_batch_of_another_target_is_refused() {
    let golden = Golden::new("targets", "text", "zstd");
    golden.refuses(
        |store| fs::rename(store.join(TARGET), store.join("other")).expect("the target"),
        "55000",
        &["is behind this database", "SELECT tx_reset('reporting')"],
    );
    let (_store, destination) =
        golden.damaged(|store| fs::rename(store.join(TARGET), store.join("other")).expect("the target"));
    destination
        .refused(&destination.import_sql().replace(TARGET, "other"))
        .expect("XX001", &["other/manifest/0000000003.json", "target \"reporting\""]);
}

#[test]
fn a_store_that_was_changed_for_another_is_refused() {
    let golden = Golden::new("one", "text", "zstd");
    let other = Golden::new("another", "text", "zstd");
    let destination = golden.destination.with_store(&other.store);
    destination.import_refused().expect(
        "55000",
        &["batch 2 of target \"reporting\" does not follow the batch that was applied here", "tx_reset"],
    );
    // Which is what a reset is for.
    destination.reset();
    destination.import();
    other.source.assert_equal(&destination);
}

#[test]
fn what_does_not_belong_to_a_batch_is_ignored() {
    let golden = Golden::new("foreign", "text", "zstd");
    let (store, _) = golden.damaged(|store| {
        let manifests = store.join(TARGET).join("manifest");
        for name in [
            "0000000002.json~",
            "2.json",
            ".0000000004.json",
            "00000000004.json",
            "copy of 0000000004.json",
            "Ä\n.json",
        ] {
            fs::write(manifests.join(name), "garbage").expect("a file");
        }
        fs::create_dir(manifests.join("0000000005")).expect("a folder");
        fs::write(store.join("README"), "for people").expect("a file");
        fs::create_dir_all(store.join(TARGET).join("data/0000000002/lost+found")).expect("a folder");
    });
    golden.imports_from(&store);
}

// Manifests that are not what was published

#[test]
fn what_is_no_manifest_is_refused() {
    let golden = Golden::new("no_manifest", "text", "zstd");
    let manifest = golden.manifest();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let whole = fs::read_to_string(golden.store.path().join(&manifest)).expect("the manifest");
    for content in [
        "".to_owned(),
        "null".into(),
        "[]".into(),
        "not JSON".into(),
        "\u{0}".into(),
        deep.clone(),
        format!("{{\"format_version\": 1, \"x\": {deep}}}"),
        whole[..whole.len() / 2].to_owned(),
        format!("{whole} {whole}"),
        whole.replacen("\"number\": 2,", "\"number\": 2, \"number\": 2,", 1),
        whole.replacen("\"number\": 2,", "", 1),
        whole.replacen("\"number\": 2,", "\"number\": 2.0,", 1),
        whole.replacen("\"number\": 2,", "\"number\": \"2\",", 1),
        whole.replacen("\"number\": 2,", "\"number\": 2, \"extra\": null,", 1),
        whole.replacen("\"size\": ", "\"size\": -", 1),
        whole.replacen("\"size\": ", "\"size\": 99999999999999999999", 1),
        whole.replacen("\"format_version\": 1", "\"format_version\": 0", 1),
        whole.replacen("\"format_version\": 1", "\"format_version\": -1", 1),
        whole.replacen("\"note\"", "\"no\\u0000te\"", 1),
        whole.replacen("\"note\"", "\"\\ud800\"", 1),
    ] {
        assert_ne!(content, whole);
        golden.refuses(
            |store| fs::write(store.join(&manifest), &content).expect("the manifest"),
            "XX001",
            &[text(&manifest)],
        );
    }
    golden.imports_from(&golden.store);
}

#[test]
fn a_manifest_that_is_too_large_is_refused() {
    let golden = Golden::new("large", "text", "zstd");
    let manifest = golden.manifest();
    golden.refuses(
        |store| edit_file(&store.join(&manifest), |bytes| bytes.resize(65 << 20, b' ')),
        "XX001",
        &[text(&manifest), "more than"],
    );
    // A file without end, as far as reading goes.
    golden.refuses(
        |store| {
            fs::File::options()
                .write(true)
                .open(store.join(&manifest))
                .and_then(|file| file.set_len(1 << 40))
                .expect("a sparse file")
        },
        "XX001",
        &[text(&manifest), "more than"],
    );
}

#[test]
fn a_manifest_of_the_future_is_refused() {
    let golden = Golden::new("future", "text", "zstd");
    golden.refuses_manifest(
        |manifest| {
            manifest["format_version"] = json!(2);
            manifest["tables"] = json!({"in": "another form"});
        },
        "0A000",
        &[text(&golden.manifest()), "format version 2", "Upgrade pg_table_export here."],
    );
}

#[test]
fn an_edited_manifest_is_refused() {
    let golden = Golden::new("edited", "text", "zstd");
    let manifest = golden.manifest();
    let edits: &[(&str, Value)] = &[
        ("/target", json!("other")),
        ("/number", json!(3)),
        ("/number", json!(0)),
        ("/kind", json!("full")),
        ("/kind", json!("Changes")),
        ("/kind", json!("weird")),
        ("/id", json!("not a uuid")),
        ("/previous", json!("")),
        ("/created_at", json!("yesterday; DROP TABLE items")),
        ("/created_at", json!("")),
        ("/tables", json!([{}])),
        ("/tables/0/schema", json!("../../../etc")),
        ("/tables/0/schema", json!("")),
        ("/tables/0/name", json!("lines")),
        ("/tables/0/name", json!("items\"; DROP TABLE items; --")),
        ("/tables/0/kind", json!("full")),
        ("/tables/0/format", json!("xml")),
        ("/tables/0/columns/0/name", json!("note")),
        ("/tables/0/columns/0/name", json!("id\"; DROP TABLE items; --")),
        ("/tables/0/columns/0/type", json!("text")),
        ("/tables/0/columns/0/type", json!("integer); DROP TABLE items; --")),
        ("/tables/0/columns/2/typmod", json!(-1)),
        ("/tables/0/columns/0/not_null", json!(false)),
        ("/tables/0/columns/1/collation", json!("pg_catalog.\"C\"")),
        ("/tables/0/columns", json!([])),
        ("/tables/0/key", json!([])),
        ("/tables/0/key", json!(["id", "id"])),
        ("/tables/0/key", json!(["missing"])),
        ("/tables/0/key", json!(["note"])),
        ("/tables/0/fingerprint", json!("")),
        ("/tables/0/ids", json!(0)),
        ("/tables/0/ids", json!(1)),
        ("/tables/0/ids", json!(u64::MAX)),
        ("/tables/0/records", json!(0)),
        ("/tables/0/records", json!(1)),
        ("/tables/0/records", json!(u64::MAX)),
        ("/tables/0/files/ids/name", json!("../../../../../../etc/passwd")),
        ("/tables/0/files/ids/name", json!("/etc/passwd")),
        ("/tables/0/files/ids/name", json!("public/lines/ids.zst")),
        ("/tables/0/files/ids/size", json!(0)),
        ("/tables/0/files/ids/size", json!(u64::MAX)),
        ("/tables/0/files/ids/content_size", json!(0)),
        ("/tables/0/files/ids/content_size", json!(u64::MAX)),
        ("/tables/0/files/ids/sha256", json!("0000")),
        ("/tables/0/files/ids/compression", json!("none")),
        ("/tables/0/files/ids/compression", json!("gzip")),
        ("/tables/0/files/records/size", json!(1)),
        ("/tables/0/files/records/content_size", json!(1)),
        ("/tables/0/files/records/sha256", json!("0".repeat(64))),
        ("/tables/0/files/columns/size", json!(1)),
        ("/tables/0/files/columns/sha256", json!("0".repeat(64))),
    ];
    let mut problems = Vec::new();
    for (pointer, value) in edits {
        let edit = |manifest: &mut Value| {
            let place = manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
            assert_ne!(place, value, "{pointer}");
            *place = value.clone();
        };
        // Either the manifest contradicts itself, or a file of the batch, or what is in it.
        let damage = |store: &Path| edit_manifest(&store.join(&manifest), edit);
        if let Err(problem) = golden.try_refuse(damage, "XX001", &["Nothing was changed."])
            && let Err(problem) = golden
                .try_refuse(|store| edit_manifest(&store.join(&manifest), edit), "XX001", &["0000000002"])
                .map_err(|_| problem)
        {
            problems.push(format!("{pointer} = {value}: {problem}"));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n\n"));
    golden.imports_from(&golden.store);
}

#[test]
fn an_edited_chain_is_refused() {
    let golden = Golden::new("chain", "text", "zstd");
    let follows = "batch 2 of target \"reporting\" does not follow the batch that was applied here";
    for previous in [json!(null), json!("00000000-0000-4000-8000-000000000000")] {
        golden.refuses_manifest(|manifest| manifest["previous"] = previous, "55000", &[follows, "tx_reset"]);
    }
    golden.refuses_manifest(
        |manifest| manifest["id"] = json!("00000000-0000-4000-8000-000000000000"),
        "58P01",
        &["0000000002/00000000-0000-4000-8000-000000000000"],
    );
}

/// Makes a manifest agree with itself again after an edit of the columns of its first table.
fn seal(store: &Path, manifest: &mut Value) {
    let table = &mut manifest["tables"][0];
    let key = table["key"].as_array().expect("a key").clone();
    let mut content = String::new();
    for column in table["columns"].as_array().expect("columns") {
        let text = |name| column[name].as_str().map_or("\\N".into(), |text: &str| text.replace('\\', "\\\\"));
        let position = key.iter().position(|name| *name == column["name"]);
        content += &format!(
            "{}\t{}\t{}\t\\N\t{}\t{}\t{}\n",
            text("name"),
            text("type"),
            column["typmod"],
            text("collation"),
            if column["not_null"] == true { "t" } else { "f" },
            position.map_or("\\N".into(), |index| (index + 1).to_string())
        );
    }
    let file =
        format!("{TARGET}/data/0000000002/{}/public/items/columns", manifest["id"].as_str().expect("an id"));
    fs::write(store.join(file), &content).expect("the columns");
    let hash = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let table = &mut manifest["tables"][0];
    table["fingerprint"] = json!(hash);
    table["files"]["columns"]["sha256"] = json!(hash);
    table["files"]["columns"]["size"] = json!(content.len());
    table["files"]["columns"]["content_size"] = json!(content.len());
}

#[test]
fn names_and_types_of_a_manifest_are_compared_and_never_run() {
    // A file in format binary must be read by the type that has written it.
    let golden = Golden::new("injected", "binary", "zstd");
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("/tables/0/columns/1/type", "integer", "22P03", &["incorrect binary data format", "public.items"]),
        (
            "/tables/0/columns/1/type",
            "text; DROP TABLE lines",
            "42804",
            &["column \"note\"", "DROP TABLE lines"],
        ),
        ("/tables/0/columns/1/type", "no_such_type", "42804", &["column \"note\"", "no_such_type"]),
        ("/tables/0/columns/1/name", "note\"; DROP TABLE lines; --", "42703", &["DROP TABLE lines"]),
        ("/tables/0/columns/1/name", "ctid", "42703", &["ctid"]),
    ];
    for (pointer, value, sqlstate, texts) in cases {
        golden.refuses(
            |store| {
                edit_manifest(&store.join(golden.manifest()), |manifest| {
                    *manifest.pointer_mut(pointer).expect("the place") = json!(value);
                    seal(store, manifest);
                });
            },
            sqlstate,
            texts,
        );
    }
}

#[test]
fn a_table_name_of_a_manifest_is_looked_up_and_never_run() {
    let golden = Golden::new("table_name", "text", "zstd");
    let folder = golden.file("items/columns").with_file_name("");
    for (schema, table, sqlstate) in [
        ("public", "items\"; DROP TABLE lines; --", "42P01"),
        ("pg_catalog", "pg_authid", "42809"),
        ("table_export", "receipt", "42809"),
        ("no schema", "items", "42P01"),
        ("pg_temp", "items", "42P01"),
        ("", "items", "XX001"),
    ] {
        let encode = |name: &str| {
            let byte = |byte: u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            };
            name.bytes().map(byte).collect::<String>()
        };
        golden.refuses(
            |store| {
                let from = store.join(&folder);
                let data = from.parent().and_then(Path::parent).expect("the folder of the batch").to_owned();
                let to = data.join(encode(schema)).join(encode(table));
                if !schema.is_empty() {
                    fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
                    fs::rename(from, to).expect("a folder");
                }
                edit_manifest(&store.join(golden.manifest()), |manifest| {
                    let part = &mut manifest["tables"][0];
                    part["schema"] = json!(schema);
                    part["name"] = json!(table);
                    for (file, name) in
                        [("columns", "columns"), ("ids", "ids.zst"), ("records", "records.zst")]
                    {
                        part["files"][file]["name"] =
                            json!(format!("{}/{}/{name}", encode(schema), encode(table)));
                    }
                });
            },
            sqlstate,
            &[table],
        );
    }
}

// Compression

/// Puts other bytes in the place of a file of batch 2, and makes its manifest agree with them.
fn replace_records(golden: &Golden, store: &Path, stored: &[u8], content_size: Option<u64>) {
    fs::write(store.join(golden.file("items/records.zst")), stored).expect("the file");
    let hash = Sha256::digest(stored).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    edit_manifest(&store.join(golden.manifest()), |manifest| {
        let file = &mut manifest["tables"][0]["files"]["records"];
        file["size"] = json!(stored.len());
        file["sha256"] = json!(hash);
        if let Some(content_size) = content_size {
            file["content_size"] = json!(content_size);
        }
    });
}

/// A gigabyte of one byte, compressed to a ten thousandth.
fn bomb(byte: u8) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    std::io::copy(&mut std::io::Read::take(std::io::repeat(byte), 1 << 30), &mut encoder).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn a_compression_bomb_is_refused_before_it_goes_off() {
    let golden = Golden::new("bomb", "text", "zstd");
    let file = golden.file("items/records.zst");
    let bomb = bomb(b'\n');
    golden.refuses(
        |store| fs::write(store.join(&file), &bomb).expect("the file"),
        "XX001",
        &[text(&file), "batch 2"],
    );
    golden.refuses(
        |store| replace_records(&golden, store, &bomb, None),
        "XX001",
        &[text(&file), "batch 2", "bytes of content"],
    );
}

#[test]
fn a_frame_that_needs_more_memory_than_allowed_is_refused() {
    let golden = Golden::new("window", "text", "zstd");
    let file = golden.file("items/records.zst");
    // A frame header that asks for a window of 2 GiB and more, then one empty block.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    golden.refuses(
        |store| replace_records(&golden, store, &frame, Some(0)),
        "XX001",
        &[text(&file), "batch 2"],
    );
}

// Links and other things that are no files

#[test]
fn links_are_not_followed() {
    let golden = Golden::new("links", "text", "zstd");
    let elsewhere = golden.store.copy();
    let mut problems = Vec::new();
    let files = golden.files(2).into_iter().chain([golden.manifest()]).flat_map(|file| {
        // Every folder on the way to it, too.
        file.ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .map(Path::to_path_buf)
            .collect::<Vec<_>>()
    });
    let mut paths = files.collect::<Vec<_>>();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (store, destination) = golden.damaged(|store| {
            let link = store.join(&path);
            if link.is_dir() {
                fs::remove_dir_all(&link).expect("a folder");
            } else {
                fs::remove_file(&link).expect("a file");
            }
            symlink(elsewhere.path().join(&path), link).expect("a link");
        });
        let mut client = destination.client();
        let before = state(&mut client);
        match query(&mut client, &destination.import_sql()) {
            Ok(_) => problems.push(format!("{} was followed", path.display())),
            Err(error) => {
                let refusal = refusal(&error);
                let names_it = refusal.to_string().contains(text(&path));
                if !names_it || !["42501", "58030", "42809"].contains(&refusal.sqlstate.as_str()) {
                    problems.push(format!("{}: {refusal}", path.display()));
                }
            }
        }
        if state(&mut client) != before {
            problems.push(format!("{} has changed the destination", path.display()));
        }
        drop(store);
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n\n"));
}

#[test]
fn an_export_writes_through_no_link() {
    let golden = Golden::new("outside", "text", "zstd");
    golden.source.run("UPDATE items SET note = 'secret'");
    for folder in ["", "manifest", "data"] {
        let outside = Store::new();
        let (store, _) = golden.damaged(|store| {
            let link = store.join(TARGET).join(folder);
            let aside = store.join("aside");
            fs::rename(&link, &aside).expect("a folder");
            symlink(outside.path(), link.components().as_path()).expect("a link");
        });
        let refusal = golden.source.with_store(&store).export_refused();
        refusal.expect("42501", &[TARGET]);
        assert!(outside.files().is_empty(), "{:?}", outside.files());
    }
    golden.source.feed(&golden.destination);
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let golden = Golden::new("irregular", "text", "zstd");
    for file in golden.files(2).into_iter().chain([golden.manifest()]) {
        golden.refuses(
            |store| {
                fs::remove_file(store.join(&file)).expect("the file");
                fs::create_dir(store.join(&file)).expect("a folder");
            },
            "58030",
            &[text(&file)],
        );
        golden.refuses(
            |store| {
                fs::remove_file(store.join(&file)).expect("the file");
                let made = Command::new("mkfifo").arg(store.join(&file)).status();
                assert!(made.is_ok_and(|status| status.success()));
                chmod(&store.join(&file), 0o666);
            },
            "58030",
            &[text(&file)],
        );
    }
}

// Stores that cannot be used

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// Makes sure that an export is refused, and that position, catalog and store are as they were.
fn refuses_export(source: &Database, store: &Store, sqlstate: &str, texts: &[&str]) {
    let known = "SELECT name, number, position, batch FROM table_export.target";
    let (before, files) = (source.text(known), store.files());
    source.export_refused().expect(sqlstate, texts);
    assert_eq!(source.text(known), before);
    let manifests = |files: Vec<PathBuf>| {
        files.into_iter().filter(|file| file.to_string_lossy().contains("/manifest/")).collect::<Vec<_>>()
    };
    assert_eq!(manifests(store.files()), manifests(files));
}

#[test]
fn what_is_damaged_in_the_only_store_is_sent_again_as_the_hint_says() {
    let golden = Golden::new("sent_again", "text", "zstd");
    let (store, destination) = golden.damaged(|store| {
        golden.files(2).iter().for_each(|file| fs::write(store.join(file), "x").expect("our own file"));
    });
    let refusal = destination.import_refused();
    refusal.expect("XX001", &["of batch 2 is damaged"]);
    let again = "run at the source: SELECT tx_reset('reporting'); SELECT * FROM tx_export('reporting');";
    assert!(refusal.hint.ends_with(again), "{refusal}");
    let source = golden.source.with_store(&store);
    source.reset();
    source.export();
    destination.import();
    source.assert_equal(&destination);
}

#[test]
fn a_missing_store_is_refused_and_not_made() {
    let golden = Golden::new("missing", "text", "zstd");
    let (store, destination) = golden.damaged(|_| {});
    let aside = store.path().with_extension("aside");
    golden.source.run("UPDATE items SET note = 'x'");
    let source = golden.source.with_store(&store);
    fs::rename(store.path(), &aside).expect("a folder");
    let texts = [text(store.path()), "does not exist", "must exist and belong to"];
    source.export_refused().expect("58P01", &texts);
    destination.import_refused().expect("58P01", &texts);
    assert!(!store.path().exists());
    fs::rename(&aside, store.path()).expect("a folder");
    source.export();
    destination.import();
    source.assert_equal(&destination);
}

#[test]
fn a_store_that_is_read_only_can_be_imported_from() {
    let golden = Golden::new("read_only", "text", "zstd");
    let (store, _) = golden.damaged(|_| {});
    let folders = Command::new("find")
        .arg(store.path())
        .args(["-type", "d", "-exec", "chmod", "555", "{}", "+"])
        .status();
    assert!(folders.is_ok_and(|status| status.success()));
    golden.imports_from(&store);
    golden.source.run("UPDATE items SET note = 'x'");
    refuses_export(
        &golden.source.with_store(&store),
        &store,
        "42501",
        &[text(store.path()), "ermission denied"],
    );
}

#[test]
fn a_store_of_another_owner_is_refused() {
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).ok() != Some(0) {
        println!("skipped: only root can give a folder away");
        return;
    }
    let golden = Golden::new("owned", "text", "zstd");
    golden.source.run("UPDATE items SET note = 'x'");
    let (store, destination) = golden.damaged(|store| {
        chown(store, Some(0), Some(0)).expect("root");
        chmod(store, 0o700);
    });
    golden.source.with_store(&store).export_refused().expect("42501", &[text(store.path())]);
    destination.import_refused().expect("42501", &[text(store.path())]);
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let golden = Golden::new("unreadable", "text", "zstd");
    for file in golden.files(2).into_iter().chain([golden.manifest()]) {
        golden.refuses(|store| chmod(&store.join(&file), 0o000), "42501", &[text(&file)]);
    }
}

#[test]
fn what_is_no_store_is_refused() {
    let golden = Golden::new("no_store", "text", "zstd");
    for (location, sqlstate) in [
        ("relative/path", "0A000"),
        ("ftp://host/prefix", "0A000"),
        ("file://host/path", "0A000"),
        ("file:relative", "0A000"),
        ("", "0A000"),
        ("/etc/passwd", "42809"),
        ("/dev/null/x", "42809"),
    ] {
        let call = format!("tx_export('{TARGET}', store => '{location}')");
        golden.source.refused(&format!("SELECT * FROM {call}")).expect(sqlstate, &[location]);
        let call = format!("tx_import('{TARGET}', store => '{location}')");
        golden.destination.refused(&format!("SELECT * FROM {call}")).expect(sqlstate, &[location]);
    }
    let refusal = golden.source.with_url("file://dev/shm/x").export_refused();
    assert_eq!(refusal.hint, "The URL of a directory has three slashes, as in \"file:///dev/shm/x\".");
}

#[test]
fn a_stray_manifest_of_the_last_number_can_be_removed() {
    let golden = Golden::new("last_number", "text", "zstd");
    let (store, destination) = golden.damaged(|_| {});
    let source = golden.source.with_store(&store);
    source.run("UPDATE items SET note = 'x'");
    let stray = store.path().join(TARGET).join("manifest/9999999999.json");
    fs::write(&stray, "{}").expect("our own folder");
    refuses_export(&source, &store, "55000", &["9999999999", "tx_reset"]);
    source.reset();
    refuses_export(&source, &store, "54000", &["10000000000", "remove the manifest with the highest number"]);
    fs::remove_file(stray).expect("our own file");
    source.feed(&destination);
}

// Files that take hours to read

/// A hole that a file gets at its end takes no space.
const LARGE: u64 = 1 << 40;

#[test]
fn a_cancel_is_obeyed_while_a_file_is_read() {
    let golden = Golden::new("cancelled", "text", "none");
    golden.source.run("ALTER DATABASE cancelled SET statement_timeout = '1s'");
    golden.destination.run("ALTER DATABASE cancelled_copy SET statement_timeout = '1s'");
    let (store, destination) = golden.damaged(|store| {
        let records = store.join(golden.file("items/records"));
        let file = fs::OpenOptions::new().write(true).open(records).expect("the file");
        file.set_len(LARGE).expect("a hole");
        edit_manifest(&store.join(golden.manifest()), |manifest| {
            let file = &mut manifest["tables"][0]["files"]["records"];
            (file["size"], file["content_size"]) = (json!(LARGE), json!(LARGE));
        });
    });
    let timeout = ["canceling statement due to statement timeout"];
    let compact =
        format!("SELECT * FROM tx_compact('{TARGET}', store => '{}', first => 2, last => 3)", store.url());
    destination.refused(&compact).expect("57014", &timeout);
    golden.source.refused(&compact).expect("57014", &timeout);
    // An error about data makes an import read all files once more, to find out whether one is damaged.
    destination.import_refused().expect("22021", &["invalid byte sequence", "batch 2"]);
    // A cancel does not, not even once it has been raised.
    destination.run(
        "SET statement_timeout = 0;
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN OLD; END';
         CREATE TRIGGER slow BEFORE DELETE ON items FOR EACH ROW EXECUTE FUNCTION slow();
         ALTER TABLE items ENABLE ALWAYS TRIGGER slow",
    );
    destination.refused(&destination.call("tx_import", ", mode => 'append'")).expect("57014", &timeout);
}

// Disks that are full, or mounted read-only

#[test]
fn a_full_disk_is_refused_and_overcome() {
    let Some(disk) = SmallDisk::mount() else { return };
    let source = Database::source(&SHARED, "full", &disk.0);
    let destination = Database::destination(&SHARED, "full_copy", &disk.0);
    source.feed(&destination);
    // Hashes, because compression must not help.
    source.run("INSERT INTO lines SELECT i, 1, now() FROM generate_series(1000, 2000) i");
    source.run("INSERT INTO items SELECT i, (SELECT string_agg(md5(i || '/' || j), '') FROM generate_series(1, 20) j) FROM generate_series(1000, 6000) i");
    let mut used = Vec::new();
    for _ in 0..5 {
        refuses_export(&source, &disk.0, "53100", &[text(disk.0.path()), "No space left on device"]);
        used.push(disk.0.files().len());
    }
    assert_eq!(used.first(), used.last(), "what failed exports leave behind piles up: {used:?}");
    disk.remount("size=64m");
    source.feed(&destination);
}

#[test]
fn a_disk_mounted_read_only_is_refused_and_overcome() {
    let Some(disk) = SmallDisk::mount() else { return };
    let source = Database::source(&SHARED, "mounted", &disk.0);
    let destination = Database::destination(&SHARED, "mounted_copy", &disk.0);
    source.export();
    source.insert([100]);
    disk.remount("ro");
    refuses_export(&source, &disk.0, "42501", &[text(disk.0.path()), "Read-only file system"]);
    destination.import();
    disk.remount("rw");
    source.feed(&destination);
}
