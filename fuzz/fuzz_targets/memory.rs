//! Whatever stands in a file, reading and compacting it takes no more memory than a line of it, the keys that
//! fit into the memory given, and a constant. The allocator counts what Rust's code takes; the process has a
//! limit for all of it.
#![no_main]

use std::alloc::System;
use std::io::{self, Write};
use std::sync::Arc;

use batch::{Compression, Counted, Format, Kind, Part, Reading, Without, Writer, compact_part, reader};
use cap::Cap;
use libfuzzer_sys::fuzz_target;
use pg_table_export_fuzz::memory::Memory;
use pg_table_export_fuzz::sample::{NUMBER, SAMPLES, TARGET, header};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The most bytes of a file, and the most lines: compaction reads them again for each share of their keys.
const CONTENT_MAX: usize = 1 << 22;
const LINES_MAX: usize = 1 << 15;

/// What compaction may take for keys.
const KEYS: usize = 1 << 20;

/// What readers and writers of three files take, with their buffers and threads.
const CONSTANT: usize = 8 << 20;

fuzz_target!(|runs: &[u8]| {
    // The sample's second table has a key of two columns.
    let part = &SAMPLES[0].written.manifest.parts[1];
    let (ids, records) = runs.split_at(runs.len() / 2);
    let [mut ids, records] = [content(ids), content(records)];
    // A batch of changes has no more records than ids.
    let more = (lines(&records) + 1).saturating_sub(lines(&ids));
    ids.resize(ids.len() + more, b'\n');
    let contents = [ids, records];
    let store = Memory::default();
    let first = publish(&store, NUMBER - 1, part, &contents);
    let second = publish(&store, NUMBER, part, &contents);
    let longest = contents.iter().flat_map(|one| one.split(|&byte| byte == b'\n')).map(<[u8]>::len).max();
    drop(contents);

    // A line is held twice while it grows.
    let bound = KEYS + 3 * longest.unwrap_or(0) + CONSTANT;
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + bound).expect("more than there is");
    let _ = io::copy(
        &mut Without::new(reader::records(&store, &second, &second.parts[0]).expect("a file"), vec![0]),
        &mut io::sink(),
    );
    let writer = Writer::new(Arc::new(store.clone()), TARGET, NUMBER + 1, Compression::Zstd);
    let reading = Reading { store: &store, memory: KEYS as u64, interrupted: || false, doing: "compact" };
    let run = [(&first, &first.parts[0]), (&second, &second.parts[0])];
    let _ = compact_part(&writer.expect("a writer"), reading, &run);
    ALLOCATOR.set_limit(usize::MAX).expect("no limit");
});

/// Makes a content of runs: each byte, and how often it is repeated as a power of two.
fn content(runs: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for run in runs.chunks_exact(2) {
        let most = if run[0] == b'\n' {
            LINES_MAX.saturating_sub(lines(&content))
        } else {
            CONTENT_MAX.saturating_sub(content.len())
        };
        let count = (1 << (run[1] % 23)).min(most);
        content.resize(content.len() + count, run[0]);
    }
    content
}

/// Counts the lines, of which the last may lack its end.
fn lines(content: &[u8]) -> usize {
    let ends = content.iter().filter(|&&byte| byte == b'\n').count();
    ends + usize::from(content.last().is_some_and(|&byte| byte != b'\n'))
}

fn publish(store: &Memory, number: u64, like: &Part, contents: &[Vec<u8>; 2]) -> batch::Manifest {
    let writer = Writer::new(Arc::new(store.clone()), TARGET, number, Compression::Zstd).expect("a writer");
    let (columns, key) = (like.columns.clone(), like.key.clone());
    let part = writer.part("public", "lines", columns, key, Kind::Changes, Format::Text).expect("a part");
    let [ids, records] = [part.ids(), part.records()];
    let [ids, records] = [(ids, &contents[0]), (records, &contents[1])].map(|(file, content)| {
        let mut file = file.expect("a file");
        file.write_all(content).expect("memory");
        Counted { rows: lines(content) as u64, file }
    });
    let part = part.finish(ids, records).expect("memory");
    writer.publish(header(number, Kind::Changes), vec![part]).expect("a batch")
}
