//! Batches written to a directory, read back, and damaged in every way.
#![allow(clippy::unwrap_used, clippy::panic)]

mod compaction;
mod comparison;
mod ranges;

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use proptest::collection::{hash_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::reader::{self, FileReader};
use super::{
    Attribute, Column, Compression, Definition, Error, Format, Header, Kind, Manifest, Origin, Part,
    Publisher, Writer, path,
};
use super::{Counted, other_attempts, sweep};
use store::Store;

const TARGET: &str = "reporting";

struct Place {
    directory: TempDir,
    store: Arc<dyn Store>,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let store = store::create(directory.path(), || false).unwrap();
        Self { directory, store }
    }

    fn writer(&self, number: u64, compression: Compression) -> Writer {
        Writer::new(self.store.clone(), TARGET, number, compression).unwrap()
    }

    /// Publishes batch `number` with some changes of one table.
    fn publish(&self, number: u64, compression: Compression) -> Manifest {
        let writer = self.writer(number, compression);
        let part = write(&writer, &users(Kind::Changes), b"1\n2\n", b"1\tAda\n");
        writer.publish(header(Kind::Changes), vec![part]).unwrap()
    }

    fn manifest(&self, number: u64) -> Result<Manifest, Error> {
        reader::manifest(&*self.store, TARGET, number)
    }

    fn manifest_file(&self, number: u64) -> PathBuf {
        self.directory.path().join(path::manifest(TARGET, number).unwrap())
    }

    /// What is read of batch 1 after its manifest was changed so.
    fn edited(&self, edit: impl FnOnce(&mut Value)) -> Result<Manifest, Error> {
        let file = self.manifest_file(1);
        let original = fs::read(&file).unwrap();
        let mut json = serde_json::from_slice(&original).unwrap();
        edit(&mut json);
        fs::write(&file, serde_json::to_vec(&json).unwrap()).unwrap();
        let read = self.manifest(1);
        fs::write(&file, original).unwrap();
        read
    }
}

#[derive(Debug)]
struct Table {
    schema: String,
    name: String,
    columns: Vec<Column>,
    key: Vec<String>,
    kind: Kind,
}

fn column(name: &str, type_name: &str, not_null: bool) -> Column {
    Column {
        name: name.into(),
        type_name: type_name.into(),
        typmod: -1,
        definition: None,
        collation: None,
        not_null,
    }
}

fn users(kind: Kind) -> Table {
    let columns = vec![column("id", "bigint", true), column("name", "text", false)];
    Table { schema: "public".into(), name: "users".into(), columns, key: vec!["id".into()], kind }
}

fn header(kind: Kind) -> Header {
    Header {
        previous: None,
        kind,
        source: Origin {
            system_identifier: "7300000000000000000".into(),
            database: "shop".into(),
            database_oid: 16384,
            timeline: 1,
            lsn: "0/1A2B3C8".into(),
            server_version: "15.18".into(),
            encoding: "UTF8".into(),
        },
        former_publishers: Vec::new(),
        position: "750:750:".into(),
        created_at: "2025-11-22T23:00:00Z".into(),
        unchanged: Vec::new(),
    }
}

fn write(writer: &Writer, table: &Table, ids: &[u8], records: &[u8]) -> Part {
    let Table { schema, name, columns, key, kind } = table;
    let part = writer.part(schema, name, columns.clone(), key.clone(), *kind, Format::Text).unwrap();
    let lines = |content: &[u8]| content.iter().filter(|byte| **byte == b'\n').count() as u64;
    let [ids, records] = [(part.ids(), ids), (part.records(), records)].map(|(file, content)| {
        let mut file = file.unwrap();
        file.write_all(content).unwrap();
        Counted { rows: lines(content), file }
    });
    part.finish(ids, records).unwrap()
}

/// Reads to the end in pieces of the given size.
fn drain(mut reader: FileReader, piece: usize) -> io::Result<Vec<u8>> {
    let (mut content, mut buffer) = (Vec::new(), vec![0; piece]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(content),
            Ok(read) => content.extend(&buffer[..read]),
            Err(error) => {
                // Asking again must not turn the error into an end.
                assert!(reader.read(&mut buffer).is_err());
                return Err(error);
            }
        }
    }
}

fn read_all(store: &dyn Store, manifest: &Manifest) -> Result<Vec<Vec<u8>>, Error> {
    let mut contents = Vec::new();
    for part in &manifest.parts {
        reader::check_columns(store, manifest, part)?;
        contents.push(drain(reader::ids(store, manifest, part)?, 7)?);
        contents.push(drain(reader::records(store, manifest, part)?, 4096)?);
    }
    Ok(contents)
}

fn is_send<T: Send + 'static>(_: &T) {}

#[test]
fn a_batch_is_read_as_it_was_written() {
    for compression in [Compression::None, Compression::Zstd] {
        let place = Place::new();
        let written = place.publish(1, compression);
        assert_eq!(place.manifest(1).unwrap(), written);
        assert_eq!(read_all(&*place.store, &written).unwrap(), [b"1\n2\n".to_vec(), "1\tAda\n".into()]);
        let part = &written.parts[0];
        assert_eq!((part.ids, part.records), (2, 1));
        let folder = place.directory.path().join(path::data(TARGET, 1, written.id).unwrap());
        let columns = fs::read_to_string(folder.join(&part.files.columns.name)).unwrap();
        assert_eq!(columns, "id\tbigint\t-1\t\\N\t\\N\tt\t1\nname\ttext\t-1\t\\N\t\\N\tf\t\\N\n");
        let suffix = if compression == Compression::Zstd { ".zst" } else { "" };
        assert!(folder.join(format!("public/users/records{suffix}")).exists());
    }
}

#[test]
fn a_definition_is_read_strictly() {
    let place = Place::new();
    let writer = place.writer(1, Compression::None);
    let mut table = users(Kind::Changes);
    let (name, type_name) = ("zip".into(), "text".into());
    let zip = Attribute { name, type_name, typmod: -1, definition: None };
    table.columns[1].definition = Some(Definition::Composite(vec![zip]));
    let part = write(&writer, &table, b"1\n2\n", b"1\t(1)\n");
    let written = writer.publish(header(Kind::Changes), vec![part]).unwrap();
    assert_eq!(place.manifest(1).unwrap(), written);
    let attribute = "/tables/0/columns/1/definition/composite/0";
    for edit in [
        // Null and missing would have the same fingerprint.
        |attribute: &mut Value| drop(attribute.as_object_mut().unwrap().remove("definition")),
        |attribute: &mut Value| attribute["more"] = json!(1),
        |attribute: &mut Value| attribute["definition"] = json!({"tuple": []}),
        |attribute: &mut Value| attribute["name"] = json!("town"),
        |attribute: &mut Value| attribute["name"] = json!("z\0"),
    ] {
        let read = place.edited(|json| edit(json.pointer_mut(attribute).unwrap()));
        assert!(matches!(read, Err(Error::Manifest { .. })), "{read:?}");
    }
}

#[test]
fn the_example_of_the_specification_is_a_manifest() {
    let specification = include_str!("../../../../docs/format.md");
    let json = specification.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let manifest = Manifest::parse(json.as_bytes(), "example", TARGET, 42).unwrap();
    let path = path::data(TARGET, 42, manifest.id).unwrap();
    assert!(specification.contains(&manifest.id.to_string()) && path.ends_with(&manifest.id.to_string()));
    assert_eq!(String::from_utf8(manifest.render("example").unwrap()).unwrap(), json);
    let Part { columns, key, .. } = &manifest.parts[0];
    for line in String::from_utf8(crate::columns::render(columns, key)).unwrap().lines() {
        assert!(specification.contains(&format!("    {line}\n")), "{line}");
    }
}

#[test]
fn an_empty_batch_is_one_of_changes() {
    let place = Place::new();
    place.writer(1, Compression::Zstd).publish(header(Kind::Changes), vec![]).unwrap();
    assert!(place.manifest(1).unwrap().parts.is_empty());
    let refused = place.writer(2, Compression::Zstd).publish(header(Kind::Full), vec![]);
    assert!(matches!(refused, Err(Error::Manifest { .. })));
}

#[test]
fn a_full_batch_has_full_parts_only() {
    let place = Place::new();
    let writer = place.writer(1, Compression::Zstd);
    let part = write(&writer, &users(Kind::Full), b"", b"1\tAda\n");
    writer.publish(header(Kind::Full), vec![part]).unwrap();
    assert!(place.manifest(1).is_ok());

    let writer = place.writer(2, Compression::Zstd);
    let part = write(&writer, &users(Kind::Changes), b"1\n", b"1\tAda\n");
    assert!(writer.publish(header(Kind::Full), vec![part]).is_err());

    let writer = place.writer(2, Compression::Zstd);
    let part = write(&writer, &users(Kind::Full), b"1\n", b"1\tAda\n");
    assert!(writer.publish(header(Kind::Full), vec![part]).is_err());
    assert!(place.manifest(2).is_err());
}

#[test]
fn a_baseline_begins_where_the_rows_are() {
    let place = Place::new();
    let publish = |number, kind, parts: &[(&str, Kind)], unchanged| {
        let writer = place.writer(number, Compression::Zstd);
        let part = |(name, kind): &(&str, Kind)| {
            write(&writer, &Table { name: (*name).into(), ..users(*kind) }, b"", b"")
        };
        let parts = parts.iter().map(part).collect();
        writer.publish(Header { unchanged, ..header(kind) }, parts)
    };
    let other = || vec![crate::Table { schema: "public".into(), name: "other".into() }];
    let (a, b) = (("a", Kind::Baseline), ("b", Kind::Full));
    assert!(publish(1, Kind::Baseline, &[a, b], vec![]).is_ok());
    assert_eq!(place.manifest(1).unwrap().parts[0].kind, Kind::Baseline);
    assert!(publish(2, Kind::Changes, &[b, ("c", Kind::Changes)], other()).is_ok());
    let refused = |kind, parts: &[(&str, Kind)], unchanged| publish(3, kind, parts, unchanged).is_err();
    assert!(refused(Kind::Baseline, &[b], vec![]), "it has no baseline");
    assert!(refused(Kind::Baseline, &[], vec![]));
    assert!(refused(Kind::Baseline, &[a, ("c", Kind::Changes)], vec![]));
    assert!(refused(Kind::Baseline, &[a], other()));
    assert!(refused(Kind::Full, &[a, b], vec![]), "a new destination cannot begin with it");
    assert!(refused(Kind::Changes, &[a, b], vec![]), "only the first batch can be one");
    let writer = place.writer(3, Compression::Zstd);
    let part = write(&writer, &Table { name: "a".into(), ..users(Kind::Baseline) }, b"", b"");
    let header = Header { previous: Some(uuid::Uuid::now_v7()), ..header(Kind::Baseline) };
    assert!(writer.publish(header, vec![part]).is_err(), "it follows another batch");
}

#[test]
fn a_number_is_published_once() {
    let place = Place::new();
    let first = place.publish(1, Compression::Zstd);
    let writer = place.writer(1, Compression::Zstd);
    let part = write(&writer, &users(Kind::Changes), b"3\n", b"");
    let refused = writer.publish(header(Kind::Changes), vec![part]);
    assert!(matches!(refused, Err(Error::Store(store::Error::Exists { .. }))));
    assert_eq!(place.manifest(1).unwrap(), first);
}

#[test]
fn numbers_are_in_order_and_strangers_are_ignored() {
    let place = Place::new();
    assert!(reader::numbers(&*place.store, TARGET, 0).unwrap().is_empty());
    for number in [10, 9, 2] {
        place.publish(number, Compression::None);
    }
    let folder = place.manifest_file(1).parent().unwrap().to_owned();
    for stranger in ["11.json", "0000000011.json.part", "0000000000.json", "+000000011.json", "notes.txt"] {
        fs::write(folder.join(stranger), "").unwrap();
    }
    let numbers = |after| reader::numbers(&*place.store, TARGET, after).unwrap();
    assert_eq!(numbers(0), [2, 9, 10]);
    assert_eq!(numbers(2), [9, 10]);
    assert_eq!(numbers(10), [0; 0]);
    assert_eq!(numbers(u64::MAX), [0; 0]);
    for number in [0, path::NUMBER_MAX + 1] {
        let refused = Writer::new(place.store.clone(), TARGET, number, Compression::None);
        assert!(matches!(refused, Err(Error::Number { .. })));
    }
}

#[test]
fn sweep_removes_only_other_attempts() {
    let place = Place::new();
    for number in [1, 2] {
        let writer = place.writer(number, Compression::Zstd);
        write(&writer, &users(Kind::Changes), b"1\n", b"");
        // As if its process had been killed.
        std::mem::forget(writer);
    }
    let published = place.publish(1, Compression::Zstd);
    let folder = place.directory.path().join(path::attempts(TARGET, 1).unwrap());
    fs::create_dir(folder.join("notes")).unwrap();
    let others = || other_attempts(&*place.store, TARGET, 1, published.id).unwrap();
    let found = others();
    assert_eq!(found.len(), 1);
    let writer = place.writer(1, Compression::Zstd);
    write(&writer, &users(Kind::Changes), b"1\n", b"");
    sweep(&*place.store, TARGET, 1, &found).unwrap();
    assert_eq!(others(), [writer.id()], "it has come later");
    drop(writer);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    assert_eq!(place.store.list(&path::attempts(TARGET, 2).unwrap(), "").unwrap().len(), 1);
    read_all(&*place.store, &published).unwrap();
}

#[test]
fn a_batch_that_is_given_up_leaves_nothing() {
    let place = Place::new();
    let published = place.publish(1, Compression::Zstd);
    for number in [1, 2] {
        let writer = place.writer(number, Compression::Zstd);
        write(&writer, &users(Kind::Changes), b"1\n", b"");
    }
    let attempts = |number| place.store.list(&path::attempts(TARGET, number).unwrap(), "").unwrap();
    assert_eq!(attempts(1), [published.id.to_string()]);
    assert!(attempts(2).is_empty());
    read_all(&*place.store, &published).unwrap();
}

#[test]
fn names_are_those_that_manifests_have() {
    let kinds = [Kind::Full, Kind::Baseline, Kind::Changes].map(|kind| (json!(kind), kind.name()));
    let formats = Format::ALL.map(|format| (json!(format), format.name()));
    let compressions = Compression::ALL.map(|compression| (json!(compression), compression.name()));
    for (in_manifest, name) in kinds.into_iter().chain(formats).chain(compressions) {
        assert_eq!(in_manifest, name);
    }
}

#[test]
fn a_dropped_file_is_not_there() {
    let place = Place::new();
    let writer = place.writer(1, Compression::Zstd);
    let table = users(Kind::Changes);
    let part = writer.part("public", "users", table.columns, table.key, Kind::Changes, Format::Text).unwrap();
    let mut records = part.records().unwrap();
    is_send(&records);
    records.write_all(&[0; 1 << 20]).unwrap();
    drop(records);
    let folder = format!("{}/public/users", path::data(TARGET, 1, writer.id()).unwrap());
    assert_eq!(place.store.list(&folder, "").unwrap(), ["columns"]);
}

#[test]
fn every_damage_to_a_file_is_seen() {
    for compression in [Compression::None, Compression::Zstd] {
        let place = Place::new();
        let manifest = place.publish(1, compression);
        let folder = place.directory.path().join(path::data(TARGET, 1, manifest.id).unwrap());
        let files = &manifest.parts[0].files;
        for name in [&files.columns.name, &files.ids.name, &files.records.name] {
            let file = folder.join(name);
            let original = fs::read(&file).unwrap();
            let refused = |content: &[u8]| {
                fs::write(&file, content).unwrap();
                match read_all(&*place.store, &manifest) {
                    Err(Error::Damaged { path, batch: 1, .. }) => assert!(path.ends_with(name.as_str())),
                    other => panic!("{name}: {other:?}"),
                }
            };
            for bit in 0..original.len() * 8 {
                let mut flipped = original.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                refused(&flipped);
            }
            for length in 0..original.len() {
                refused(&original[..length]);
            }
            for tail in [&b"\0"[..], b"\n", &original, &[0; 1 << 20]] {
                refused(&[&original, tail].concat());
            }
            fs::write(&file, &original).unwrap();
            read_all(&*place.store, &manifest).unwrap();
            fs::remove_file(&file).unwrap();
            let gone = read_all(&*place.store, &manifest);
            assert!(matches!(gone, Err(Error::Store(store::Error::NotFound { .. }))));
            fs::write(&file, &original).unwrap();
        }
    }
}

#[test]
fn a_bomb_ends_where_the_manifest_says() {
    let place = Place::new();
    let writer = place.writer(1, Compression::Zstd);
    let part = write(&writer, &users(Kind::Changes), b"1\n", &[b'0'; 64 << 20]);
    let mut manifest = writer.publish(header(Kind::Changes), vec![part]).unwrap();
    assert!(manifest.parts[0].files.records.size < 64 << 10);
    manifest.parts[0].files.records.content_size = 1000;
    let mut records = reader::records(&*place.store, &manifest, &manifest.parts[0]).unwrap();
    let mut content = Vec::new();
    let error = records.read_to_end(&mut content).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(Error::from(error), Error::Damaged { batch: 1, .. }));
    assert!(content.len() <= 1000);
}

/// What is said of a records file that the manifest agrees with.
fn refusal_of_stored(stored: &[u8], content_size: u64) -> String {
    let place = Place::new();
    let mut manifest = place.publish(1, Compression::Zstd);
    let records = &mut manifest.parts[0].files.records;
    (records.size, records.sha256) = (stored.len() as u64, super::hashed::sha256(stored));
    records.content_size = content_size;
    let folder = place.directory.path().join(path::data(TARGET, 1, manifest.id).unwrap());
    fs::write(folder.join(&records.name), stored).unwrap();
    read_all(&*place.store, &manifest).unwrap_err().to_string()
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(b"1\tAda\n").unwrap();
    let error = refusal_of_stored(&encoder.finish().unwrap(), 6);
    assert!(error.contains("too much memory"), "{error}");
}

#[test]
fn a_frame_that_needs_no_memory_is_refused_all_the_same() {
    let window_of_2_28 = b"\x28\xb5\x2f\xfd\x80\x90\x06\0\0\0\x31\0\x001\tAda\n";
    let to_be_skipped = b"\x50\x2a\x4d\x18\x02\0\0\0\0\0";
    for (stored, content_size) in [(&window_of_2_28[..], 6), (to_be_skipped, 0)] {
        let error = refusal_of_stored(stored, content_size);
        assert!(error.contains("not one that a batch can have"), "{error}");
    }
}

#[test]
fn a_later_format_is_named_as_such() {
    let place = Place::new();
    place.publish(1, Compression::Zstd);
    let future = |json: &mut Value| *json = json!({"format_version": 2, "number": "two", "more": [{}]});
    let error = place.edited(future).unwrap_err();
    assert!(matches!(error, Error::FutureFormat { found: 2, supported: 1, .. }));
    assert!(place.edited(|json| json["format_version"] = json!(0)).is_err());
}

#[test]
fn a_part_has_no_more_columns_than_a_table_can_have() {
    let place = Place::new();
    place.publish(1, Compression::Zstd);
    let columns =
        |count| json!((0..count).map(|n| column(&format!("c{n}"), "text", false)).collect::<Vec<_>>());
    let refusal = |count| place.edited(|json| json["tables"][0]["columns"] = columns(count)).unwrap_err();
    assert!(refusal(1600).to_string().contains("its key is not"));
    assert!(refusal(1601).to_string().contains("it has more than 1600 columns"));
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let place = Place::new();
    place.publish(1, Compression::Zstd);
    place.edited(|_| ()).unwrap();
    type Edit = fn(&mut Value);
    let edits: &[Edit] = &[
        |json| json["more"] = json!(1),
        |json| json["tables"][0]["files"]["ids"]["more"] = json!(1),
        |json| json["target"] = json!("other"),
        |json| json["number"] = json!(2),
        |json| json["number"] = json!(-1),
        |json| json["kind"] = json!("full"),
        |json| json["kind"] = json!("partial"),
        |json| json["previous"] = json["id"].clone(),
        |json| drop(json.as_object_mut().unwrap().remove("previous")),
        |json| drop(json["tables"][0]["columns"][0].as_object_mut().unwrap().remove("collation")),
        |json| json["tables"][0]["columns"][0] = json!(["id", "bigint", -1, null, true]),
        |json| json["tables"][0]["kind"] = json!({"changes": null}),
        |json| json["id"] = json!(json["id"].as_str().unwrap().replace('-', "")),
        |json| json["position"] = json!("7\0"),
        |json| json["tables"] = json!([json["tables"][0], json["tables"][0]]),
        |json| json["unchanged"] = json!([{"schema": "public", "name": "users"}]),
        |json| json["unchanged"] = json!([{"schema": "public", "name": "u\0"}]),
        |json| json["unchanged"] = json!(["users"]),
        |json| drop(json.as_object_mut().unwrap().remove("unchanged")),
        |json| {
            json["former_publishers"] =
                json!([{"system_identifier": "7300000000000000000", "database_oid": 16384}])
        },
        |json| {
            let former = json!({"system_identifier": "1", "database_oid": 5});
            json["former_publishers"] = json!([former, former])
        },
        |json| json["tables"][0]["name"] = json!("others"),
        |json| json["tables"][0]["kind"] = json!("full"),
        |json| json["tables"][0]["ids"] = json!(0),
        |json| json["tables"][0]["key"] = json!([]),
        |json| json["tables"][0]["key"] = json!(["absent"]),
        |json| json["tables"][0]["key"] = json!(["id", "id"]),
        |json| json["tables"][0]["key"] = json!(["name"]),
        |json| json["tables"][0]["columns"][1]["name"] = json!("id"),
        |json| json["tables"][0]["columns"][1]["type"] = json!("varchar"),
        |json| json["tables"][0]["fingerprint"] = json!("00"),
        |json| json["tables"][0]["files"]["columns"]["sha256"] = json!("00"),
        |json| json["tables"][0]["files"]["ids"]["sha256"] = json!("\0"),
        |json| json["tables"][0]["files"]["ids"]["sha256"] = json!("A".repeat(64)),
        |json| json["tables"][0]["files"]["columns"]["compression"] = json!("zstd"),
        |json| json["tables"][0]["files"]["records"]["compression"] = json!("none"),
        |json| json["tables"][0]["files"]["records"]["name"] = json!("../../../../../etc/passwd"),
        |json| {
            json["tables"][0]["files"]["records"]["name"] = json["tables"][0]["files"]["ids"]["name"].clone()
        },
    ];
    for (index, edit) in edits.iter().enumerate() {
        let read = place.edited(edit);
        assert!(matches!(read, Err(Error::Manifest { .. })), "edit {index}: {read:?}");
    }
}

#[test]
fn a_batch_follows_those_of_its_own_database_and_of_former_publishers() {
    let place = Place::new();
    let mut manifest = place.publish(1, Compression::Zstd);
    let own = manifest.source.publisher();
    let other = Publisher { database_oid: own.database_oid + 1, ..own.clone() };
    assert!(manifest.continues(&own) && !manifest.continues(&other));
    manifest.former_publishers.push(other.clone());
    assert!(manifest.continues(&own) && manifest.continues(&other));
}

#[test]
fn a_full_batch_has_every_table_of_the_target() {
    let place = Place::new();
    let writer = place.writer(1, Compression::Zstd);
    let part = write(&writer, &users(Kind::Full), b"", b"1\tAda\n");
    let unchanged = vec![super::Table { schema: "public".into(), name: "orders".into() }];
    let refused = writer.publish(Header { unchanged, ..header(Kind::Full) }, vec![part]);
    assert!(matches!(refused, Err(Error::Manifest { .. })));
}

#[test]
fn what_contradicts_itself_is_refused_before_the_costly_comparison() {
    let place = Place::new();
    place.publish(1, Compression::Zstd);
    let read = place.edited(|json| {
        json["tables"][0]["key"] = json!(["", ""]);
        json.as_object_mut().unwrap().remove("previous");
    });
    assert!(matches!(read, Err(Error::Manifest { reason, .. }) if reason.contains("its key")));
}

#[test]
fn a_damaged_manifest_is_refused_or_leads_to_the_same_rows() {
    let place = Place::new();
    let manifest = place.publish(1, Compression::Zstd);
    let original = fs::read(place.manifest_file(1)).unwrap();
    let parse = |json: &[u8]| Manifest::parse(json, "", TARGET, 1);
    for length in 0..original.len() - 1 {
        assert!(parse(&original[..length]).is_err());
    }
    assert!(parse(&[&original[..], b"{}"].concat()).is_err());
    let contents = read_all(&*place.store, &manifest).unwrap();
    for bit in 0..original.len() * 8 {
        let mut flipped = original.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = parse(&flipped).and_then(|manifest| read_all(&*place.store, &manifest)) {
            assert_eq!(read, contents, "bit {bit}");
        }
    }
}

#[test]
fn a_manifest_without_end_is_refused() {
    let place = Place::new();
    place.publish(1, Compression::Zstd);
    let file = fs::OpenOptions::new().write(true).open(place.manifest_file(1)).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(place.manifest(1), Err(Error::Manifest { reason, .. }) if reason.contains("more than")));
}

#[test]
fn deep_json_is_refused() {
    let json = format!("{{\"format_version\": 1, \"target\": {}", "[".repeat(1 << 20));
    assert!(matches!(Manifest::parse(json.as_bytes(), "", TARGET, 1), Err(Error::Manifest { .. })));
}

fn name() -> impl Strategy<Value = String> {
    "[^\\x00]{1,20}"
}

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let table =
        (hash_set(name(), 1..6), vec((name(), any::<i32>(), any::<Option<bool>>(), name()), 6), 1..6usize)
            .prop_map(|(names, rest, key)| {
                let columns: Vec<_> = names
                    .into_iter()
                    .zip(rest)
                    .map(|(name, (type_name, typmod, collated, collation))| Column {
                        name,
                        type_name,
                        typmod,
                        definition: (typmod % 2 == 0).then(|| {
                            Definition::Composite(vec![Attribute {
                                name: collation.clone(),
                                type_name: "text[]".into(),
                                typmod,
                                definition: Some(Definition::Enum),
                            }])
                        }),
                        collation: collated.map(|_| collation),
                        not_null: collated == Some(true),
                    })
                    .collect();
                let key = columns.iter().rev().take(key).map(|column| column.name.clone()).collect();
                (columns, key)
            });
    (hash_set((name(), name()), 0..4), vec(table, 4)).prop_map(|(names, tables)| {
        names
            .into_iter()
            .zip(tables)
            .map(|((schema, name), (columns, key))| Table { schema, name, columns, key, kind: Kind::Changes })
            .collect()
    })
}

/// Reads one field of COPY text, as PostgreSQL does.
fn unescape(field: &str) -> Option<String> {
    if field == r"\N" {
        return None;
    }
    let (mut text, mut characters) = (String::new(), field.chars());
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next().unwrap() {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                other => other,
            },
            plain => plain,
        });
    }
    Some(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tables_are_read_as_they_were_written(tables in tables(), target in name()) {
        let place = Place::new();
        let writer = Writer::new(place.store.clone(), &target, 1, Compression::Zstd).unwrap();
        let parts = tables.iter().map(|table| write(&writer, table, b"1\n", table.name.as_bytes())).collect();
        let written = writer.publish(header(Kind::Changes), parts).unwrap();
        let read = reader::manifest(&*place.store, &target, 1).unwrap();
        prop_assert_eq!(&read, &written);
        let contents = read_all(&*place.store, &read).unwrap();
        for (table, contents) in tables.iter().zip(contents.chunks(2)) {
            prop_assert_eq!(contents, [b"1\n", table.name.as_bytes()]);
        }
    }

    #[test]
    fn any_columns_can_be_read_from_their_file(tables in tables()) {
        for Table { columns, key, .. } in tables {
            let file = String::from_utf8(crate::columns::render(&columns, &key)).unwrap();
            let lines: Vec<&str> = file.split_terminator('\n').collect();
            prop_assert_eq!(lines.len(), columns.len());
            for (line, column) in lines.into_iter().zip(columns) {
                let fields: Vec<_> = line.split('\t').map(unescape).collect();
                let position = key.iter().position(|name| *name == column.name);
                prop_assert_eq!(fields, [
                    Some(column.name),
                    Some(column.type_name),
                    Some(column.typmod.to_string()),
                    column.definition.map(|definition| definition.to_json()),
                    column.collation,
                    Some(if column.not_null { "t" } else { "f" }.into()),
                    position.map(|index| (index + 1).to_string()),
                ]);
            }
        }
    }

    #[test]
    fn any_content_passes_in_any_pieces(
        pieces in vec(vec(any::<u8>(), 0..5000), 0..20),
        repeat in 1..20usize,
        piece in 1..100_000usize,
        compression in prop_oneof![Just(Compression::None), Just(Compression::Zstd)],
    ) {
        let place = Place::new();
        let writer = place.writer(1, compression);
        let table = users(Kind::Changes);
        let part =
            writer.part("public", "users", table.columns, table.key, table.kind, Format::Binary).unwrap();
        let mut records = part.records().unwrap();
        let pieces = vec![pieces.concat(); repeat];
        for piece in &pieces {
            records.write_all(piece).unwrap();
        }
        let ids = Counted { rows: 0, file: part.ids().unwrap() };
        let part = part.finish(ids, Counted { rows: 0, file: records }).unwrap();
        let manifest = writer.publish(header(Kind::Changes), vec![part]).unwrap();
        let records = reader::records(&*place.store, &manifest, &manifest.parts[0]).unwrap();
        is_send(&records);
        prop_assert_eq!(drain(records, piece).unwrap(), pieces.concat());
    }
}

proptest! {
    #[test]
    fn fields_are_left_out_in_any_pieces(
        rows in vec(vec("[a-c\\\\é]{0,5}", 3), 0..20),
        fields in hash_set(0..3usize, 1..3),
        piece in 1..50usize,
    ) {
        let line = |row: &[String]| format!("{}\n", row.join("\t"));
        let all = rows.iter().map(|row| line(row)).collect::<String>();
        let kept = |row: &Vec<String>| {
            let kept = row.iter().enumerate().filter(|(place, _)| !fields.contains(place));
            kept.map(|(_, field)| field.clone()).collect::<Vec<_>>()
        };
        let expected = rows.iter().map(|row| line(&kept(row))).collect::<String>();
        let mut reader = super::Without::new(all.as_bytes(), fields.iter().copied().collect());
        let (mut content, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                read => content.extend(&buffer[..read]),
            }
        }
        prop_assert_eq!(String::from_utf8(content).unwrap(), expected);
    }
}

#[test]
fn an_id_is_never_taken_for_another() {
    let place = Place::new();
    let mut manifest = place.publish(1, Compression::Zstd);
    manifest.id = Uuid::new_v4();
    assert!(matches!(read_all(&*place.store, &manifest), Err(Error::Store(store::Error::NotFound { .. }))));
}
