//! Batches that the writer wrote, and how an import reads one.

use std::io::{self, Read, Write};
use std::sync::{Arc, LazyLock};

use uuid::Uuid;

use crate::memory::{Files, Flow, Memory};
use batch::reader::{self, FileReader};
use batch::{
    Column, Compression, Counted, Error, Format, Header, Kind, Manifest, Origin, Part, PartWriter, Writer,
};
use store::Store;

/// The target of all samples.
pub const TARGET: &str = "reporting";

/// The number of the batch that is read. The one before it lends files to be taken for its own.
pub const NUMBER: u64 = 42;

/// A batch as it is read: what it says, and for each part the contents of ids and records.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub manifest: Manifest,
    pub contents: Vec<[Vec<u8>; 2]>,
}

/// Two published batches of one format and compression.
pub struct Sample {
    pub files: Files,
    pub written: Batch,
}

/// One sample for each format and compression.
pub static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let compressions = [Compression::Zstd, Compression::None];
    compressions
        .into_iter()
        .flat_map(|compression| {
            [Format::Text, Format::Csv, Format::Binary].map(|format| sample(format, compression))
        })
        .collect()
});

fn sample(format: Format, compression: Compression) -> Sample {
    let store = Memory::default();
    publish(&store, NUMBER - 1, Kind::Full, format, compression);
    let written = publish(&store, NUMBER, Kind::Changes, format, compression);
    let files = store.files().clone();
    let read = Batch::read(&Memory::new(files.clone(), Flow::default()), 100);
    assert_eq!(read.ok().as_ref(), Some(&written), "what is read is what was published");
    Sample { files, written }
}

/// Publishes a batch of two tables, under an id that follows from its number: inputs mean the same whenever
/// they are tried.
fn publish(store: &Memory, number: u64, kind: Kind, format: Format, compression: Compression) -> Batch {
    let writer = Writer::new(Arc::new(store.clone()), TARGET, number, compression).expect("a writer");
    let (random, fixed) = (writer.id().to_string(), id(number).to_string());
    let column = |name: &str, type_name: &str, collation: Option<&str>, not_null| Column {
        name: name.into(),
        type_name: type_name.into(),
        typmod: -1,
        definition: None,
        collation: collation.map(str::to_owned),
        not_null,
    };
    let users = vec![column("id", "bigint", None, true), column("name", "text", None, false)];
    let lines = vec![
        column("Über\tschrift", "text", Some("pg_catalog.\"C\""), true),
        column("\\", "numeric(9,2)", None, true),
        column("at", "timestamp with time zone", None, false),
    ];
    let tables = [
        ("public", "users", users, vec!["id".into()], kind, 3),
        // Rows enough for several blocks, and not as many in the batch before.
        (".Größen", "a/b", lines, vec!["\\".into(), "Über\tschrift".into()], kind, 3 * number),
        ("public", "empty", vec![column("id", "uuid", None, true)], vec!["id".into()], Kind::Full, 0),
    ];
    let mut contents = Vec::new();
    let mut parts = Vec::new();
    for (schema, name, columns, key, kind, rows) in tables {
        let (fields, keys) = (columns.len(), key.len());
        let ids = if kind == Kind::Full { 0 } else { rows };
        let content = [rendered(Format::Text, ids, keys), rendered(format, rows, fields)];
        let part = writer.part(schema, name, columns, key, kind, format).expect("a part");
        parts.push(write(part, (ids, rows), &content));
        contents.push(content);
    }
    let mut manifest = writer.publish(header(number, kind), parts).expect("a batch");
    manifest.id = id(number);

    let mut files = store.files();
    let renamed = std::mem::take(&mut *files).into_iter().map(|(path, content)| {
        let content = match path.ends_with(".json") {
            true => String::from_utf8(content).expect("UTF-8").replace(&random, &fixed).into(),
            false => content,
        };
        (path.replace(&random, &fixed), content)
    });
    *files = renamed.collect();
    Batch { manifest, contents }
}

fn write(part: PartWriter, (ids, records): (u64, u64), [id_lines, rows]: &[Vec<u8>; 2]) -> Part {
    let files = [(part.ids(), ids, id_lines), (part.records(), records, rows)];
    let [ids, records] = files.map(|(file, rows, content)| {
        let mut file = file.expect("a file");
        // A flush ends a block of the frame, so that it has several.
        for piece in content.chunks(1000) {
            file.write_all(piece).and_then(|()| file.flush()).expect("memory");
        }
        Counted { rows, file }
    });
    part.finish(ids, records).expect("memory")
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(0x4217fc7a_5ab5_4e4f_8056_000000000000 + u128::from(number))
}

/// What an export says of a batch.
pub fn header(number: u64, kind: Kind) -> Header {
    Header {
        previous: Some(id(number - 1)),
        kind,
        source: Origin {
            system_identifier: "7312458813064512371".into(),
            database: "shop".into(),
            database_oid: 16384,
            timeline: 1,
            lsn: "3/5A7C10B8".into(),
            server_version: "15.18".into(),
            encoding: "UTF8".into(),
        },
        former_publishers: Vec::new(),
        position: "81250:81257:81250,81254".into(),
        created_at: "2025-11-22T23:16:04.512804Z".into(),
        unchanged: Vec::new(),
    }
}

/// Renders rows as COPY does.
fn rendered(format: Format, rows: u64, fields: usize) -> Vec<u8> {
    let mut content = Vec::new();
    if format == Format::Binary {
        content.extend(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    }
    for row in 0..rows {
        let values = (0..fields as u64).map(|field| (row * row + field).to_string());
        match format {
            Format::Text => content.extend(values.collect::<Vec<_>>().join("\t").bytes()),
            Format::Csv => content
                .extend(values.map(|value| format!("\"{value}\n\"")).collect::<Vec<_>>().join(",").bytes()),
            Format::Binary => {
                content.extend((fields as i16).to_be_bytes());
                for value in values {
                    content.extend((value.len() as i32).to_be_bytes());
                    content.extend(value.bytes());
                }
                continue;
            }
        }
        content.push(b'\n');
    }
    if format == Format::Binary {
        content.extend((-1i16).to_be_bytes());
    }
    content
}

impl Batch {
    /// Reads batch [`NUMBER`] with a buffer of so many bytes.
    pub fn read(store: &dyn Store, buffer: usize) -> Result<Self, Error> {
        let manifest = reader::manifest(store, TARGET, NUMBER)?;
        assert!(reader::numbers(store, TARGET, NUMBER - 1)?.contains(&NUMBER));
        let read = |part| {
            reader::check_columns(store, &manifest, part)?;
            let ids = drain(reader::ids(store, &manifest, part)?, buffer, usize::MAX)?;
            let records = drain(reader::records(store, &manifest, part)?, buffer, usize::MAX)?;
            Ok([ids, records])
        };
        let contents = manifest.parts.iter().map(read).collect::<Result<_, Error>>()?;
        Ok(Self { manifest, contents })
    }
}

/// Reads a content to its end, or up to the first piece that goes beyond `most`.
pub fn drain(mut reader: FileReader, buffer: usize, most: usize) -> io::Result<Vec<u8>> {
    let (mut content, mut buffer) = (Vec::new(), vec![0; buffer]);
    while content.len() <= most {
        match reader.read(&mut buffer) {
            Ok(0) => {
                assert_eq!(through_interrupts(&mut reader, &mut buffer).ok(), Some(0), "an end is an end");
                break;
            }
            Ok(read) => content.extend(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                assert!(
                    through_interrupts(&mut reader, &mut buffer).is_err(),
                    "an error does not become an end"
                );
                return Err(error);
            }
        }
    }
    Ok(content)
}

fn through_interrupts(reader: &mut FileReader, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The path of the manifest of batch [`NUMBER`].
pub fn manifest_path() -> String {
    format!("{TARGET}/manifest/{NUMBER:010}.json")
}

/// The folder of the data of a batch [`NUMBER`] with that id.
pub fn data_path(id: Uuid) -> String {
    format!("{TARGET}/data/{NUMBER:010}/{id}")
}

/// The paths of the three files of a part.
pub fn part_paths(manifest: &Manifest, part: &Part) -> [String; 3] {
    let files = &part.files;
    [&files.columns, &files.ids, &files.records]
        .map(|file| format!("{}/{}", data_path(manifest.id), file.name))
}

/// Says whether an error of the store names that path.
pub fn names(error: &store::Error, path: &str) -> bool {
    match error {
        store::Error::NotFound { path: named } | store::Error::Io { path: named, .. } => named == path,
        _ => false,
    }
}
