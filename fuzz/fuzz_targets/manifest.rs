//! A manifest, given as bytes, is refused or says exactly what is in it.
//!
//! That is: rendered and read again it is the same, also by the writer; no field is invented, overlooked or
//! taken in another form; the columns file follows from it, and leads back to it; and all that is opened for
//! it is in its own folder.
#![no_main]

use std::str::Split;
use std::sync::Arc;

use batch::{Column, Compression, Definition, Header, Kind, Manifest, Part, Writer, reader};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pg_table_export_fuzz::memory::{Files, Flow, Memory};
use pg_table_export_fuzz::sample::{NUMBER, TARGET, data_path, manifest_path, part_paths};
use serde_json::{Map, Value, json};
use store::encode;

/// An exported manifest.
const SEED: &str = include_str!("../seeds/manifest/changes.json");

fuzz_target!(|json: &[u8]| {
    check(json);
    if let Some(repaired) = repaired(json) {
        check(repaired.to_string().as_bytes());
    }
});

fn store_with(json: &[u8]) -> Memory {
    Memory::new(Files::from([(manifest_path(), json.into())]), Flow::default())
}

fn check(json: &[u8]) {
    let store = store_with(json);
    let Ok(manifest) = reader::manifest(&store, TARGET, NUMBER) else { return };
    assert_eq!((manifest.target.as_str(), manifest.number), (TARGET, NUMBER));

    let value = serde_json::to_value(&manifest).expect("a manifest");
    assert_eq!(serde_json::from_slice::<Value>(json).ok().as_ref(), Some(&value), "read strictly");
    let again = reader::manifest(&store_with(value.to_string().as_bytes()), TARGET, NUMBER);
    assert_eq!(again.ok().as_ref(), Some(&manifest), "rendered and read again");
    assert!(!value.to_string().contains(r"\u0000"), "no null character");
    check_publishing(&manifest);

    let folder = format!("{}/", data_path(manifest.id));
    for part in &manifest.parts {
        check_columns(part);
        assert!(reader::check_columns(&store, &manifest, part).is_err());
        assert!(reader::ids(&store, &manifest, part).is_err());
        assert!(reader::records(&store, &manifest, part).is_err());
        let opened = store.opened();
        assert_eq!(opened[opened.len() - 3..], part_paths(&manifest, part));
        for path in &opened[opened.len() - 3..] {
            let names: Vec<_> =
                path.strip_prefix(&folder).expect("in the batch's folder").split('/').collect();
            assert_eq!(names.len(), 3);
            assert!(
                names.iter().all(|name| !name.is_empty() && !name.starts_with('.') && !name.contains('\0'))
            );
        }
    }
}

/// What can be read could have been written.
fn check_publishing(manifest: &Manifest) {
    let store = Memory::default();
    let writer = Writer::new(Arc::new(store.clone()), TARGET, NUMBER, Compression::None).expect("a writer");
    let Manifest {
        previous, kind, source, former_publishers, position, created_at, parts, unchanged, ..
    } = manifest.clone();
    let header = Header { previous, kind, source, former_publishers, position, created_at, unchanged };
    let written = writer.publish(header, parts);
    let written = written.expect("what can be read can be written");
    assert_eq!(&Manifest { id: manifest.id, ..written.clone() }, manifest);
    assert_eq!(reader::manifest(&store, TARGET, NUMBER).ok(), Some(written));
}

/// Reads the columns file as PostgreSQL would, and compares.
fn check_columns(part: &Part) {
    let file = columns_file(&part.columns, &part.key).expect("a columns file");
    assert_eq!(file.len() as u64, part.files.columns.size);
    let text = String::from_utf8(file).expect("UTF-8");
    let mut key = vec![None; part.key.len()];
    let mut lines = text.split('\n');
    for column in &part.columns {
        let mut fields = lines.next().expect("a line for each column").split('\t');
        let mut field = || unescape(&mut fields);
        assert_eq!(field().as_ref(), Some(&column.name));
        assert_eq!(field().as_ref(), Some(&column.type_name));
        assert_eq!(field(), Some(column.typmod.to_string()));
        assert_eq!(field(), column.definition.as_ref().map(Definition::to_json));
        assert_eq!(field(), column.collation);
        assert_eq!(field().as_deref(), Some(if column.not_null { "t" } else { "f" }));
        if let Some(position) = field() {
            let position: usize = position.parse().expect("a number");
            assert_eq!(key[position - 1].replace(column.name.clone()), None);
        }
        assert_eq!(fields.next(), None);
    }
    assert_eq!((lines.next(), lines.next()), (Some(""), None));
    assert!(key.iter().flatten().eq(&part.key));
}

/// Reads one field of COPY text.
fn unescape(fields: &mut Split<char>) -> Option<String> {
    let field = fields.next().expect("a field");
    if field == r"\N" {
        return None;
    }
    let (mut text, mut characters) = (String::new(), field.chars());
    while let Some(character) = characters.next() {
        assert!(!"\r\u{8}\u{b}\u{c}".contains(character), "written with a backslash");
        text.push(match character {
            '\\' => match characters.next().expect("what is escaped") {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                '\\' => '\\',
                other => panic!("\\{other}"),
            },
            plain => plain,
        });
    }
    Some(text)
}

/// The columns file that the writer makes.
fn columns_file(columns: &[Column], key: &[String]) -> Option<Vec<u8>> {
    let store = Memory::default();
    let writer = Writer::new(Arc::new(store.clone()), TARGET, NUMBER, Compression::None).ok()?;
    writer.part("s", "t", columns.into(), key.into(), Kind::Changes, batch::Format::Text).ok()?;
    store.files().first_entry().map(|file| file.get().clone())
}

/// Makes true what follows from other fields: without this, nothing but what was exported would pass.
fn repaired(json: &[u8]) -> Option<Value> {
    let mut manifest: Value = serde_json::from_slice(json).ok()?;
    for part in manifest.get_mut("tables")?.as_array_mut()? {
        let columns: Vec<Column> = serde_json::from_value(part.get("columns")?.clone()).ok()?;
        let key: Vec<String> = serde_json::from_value(part.get("key")?.clone()).ok()?;
        let folder = [part.get("schema")?, part.get("name")?].map(|name| encode(name.as_str()?).ok());
        let [Some(schema), Some(table)] = folder else { return None };
        let content = columns_file(&columns, &key)?;
        let fingerprint = json!(batch::fingerprint(&columns, &key));
        *part.get_mut("fingerprint")? = fingerprint.clone();
        for (stem, file) in part.get_mut("files")?.as_object_mut()? {
            let suffix = if *file.get("compression")? == "zstd" { ".zst" } else { "" };
            *file.get_mut("name")? = json!(format!("{schema}/{table}/{stem}{suffix}"));
            if stem == "columns" {
                *file.get_mut("size")? = json!(content.len());
                *file.get_mut("sha256")? = fingerprint.clone();
            }
            if suffix.is_empty() {
                let size = file.get("size")?.clone();
                *file.get_mut("content_size")? = size;
            }
        }
    }
    Some(manifest)
}

// Changes values and fields as often as bytes.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice(seed.into());
    // Most of what has been tried is no manifest any more, and leads nowhere new.
    let parsed = match dice.roll(4) {
        0 => None,
        1 => serde_json::from_str(SEED).ok(),
        _ => serde_json::from_slice::<Value>(&data[..size]).ok(),
    };
    if let Some(mut manifest) = parsed {
        for _ in 0..=dice.roll(3) {
            change(&mut manifest, &mut dice);
        }
        let changed = manifest.to_string();
        if changed.len() <= max_size {
            data[..changed.len()].copy_from_slice(changed.as_bytes());
            return changed.len();
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
});

/// Numbers by SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

/// Changes one value somewhere in it.
fn change(root: &mut Value, dice: &mut Dice) {
    let mut places = Vec::new();
    collect(root, String::new(), &mut places);
    let other = root.pointer(&places[dice.roll(places.len())]).cloned().unwrap_or_default();
    let Some(value) = root.pointer_mut(&places[dice.roll(places.len())]) else { return };
    let replacement = match (dice.roll(8), &mut *value) {
        (0, _) => other,
        (1, Value::Object(fields)) => {
            fields.insert(["more", "name", "previous", "format_version"][dice.roll(4)].into(), other);
            return;
        }
        (2 | 3, Value::Object(fields)) => {
            let name = fields.keys().nth(dice.roll(fields.len().max(1))).cloned();
            name.map(|name| fields.shift_remove(&name));
            return;
        }
        (4, Value::Object(fields)) => fields.values().cloned().collect(),
        (1, Value::Array(items)) => {
            items.push(other);
            return;
        }
        (2 | 3, Value::Array(items)) if !items.is_empty() => {
            items.remove(dice.roll(items.len()));
            return;
        }
        (4, Value::Array(items)) => {
            items.reverse();
            return;
        }
        (1, Value::String(text)) => Map::from_iter([(text.clone(), Value::Null)]).into(),
        (2, Value::String(text)) => json!(text.to_uppercase()),
        (3, Value::String(text)) => json!(text.replace('-', "")),
        (4, Value::String(text)) => {
            json!(format!("{text}{}", ["\t", "\\", "\u{8}\u{b}", ".", "é", "/.."][dice.roll(6)]))
        }
        (5, Value::String(text)) => json!([text.as_str()]),
        (6, Value::String(text)) => json!(text.split_at(text.len() / 2 * usize::from(text.is_ascii())).1),
        (1, Value::Number(number)) => json!(number.to_string()),
        (2, Value::Number(number)) => json!(number.as_f64()),
        (3, Value::Number(number)) => json!(number.as_u64().unwrap_or_default().wrapping_add(1)),
        _ => constant(dice),
    };
    *value = replacement;
}

fn constant(dice: &mut Dice) -> Value {
    let constants = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(i32::MIN),
        json!(1.5),
        json!(""),
        json!("\0"),
        json!("full"),
        json!("changes"),
        json!("none"),
        json!("zstd"),
        json!("csv"),
        json!("2025-11-22T23:16:04Z"),
        json!([]),
        json!({}),
    ];
    constants[dice.roll(constants.len())].clone()
}

/// Lists the places of all values, as JSON pointers.
fn collect(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(value, format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, format!("{place}/{index}"), places);
            }
        }
        _ => {}
    }
    places.push(place);
}
