//! A file of a batch whose manifest agrees with it, so that no hash stands before decompression, is read as
//! what it holds, or refused. The judge is Zstandard's decompression in one call, with the rules of
//! docs/format.md about frames.
#![no_main]

use std::io::Write;

use batch::{Compression, Error, Part, reader};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pg_table_export_fuzz::edit::Edit;
use pg_table_export_fuzz::memory::{Buffer, Flow, Memory};
use pg_table_export_fuzz::sample::{NUMBER, SAMPLES, TARGET, drain, manifest_path, part_paths};
use sha2::{Digest, Sha256};
use zstd::stream::Encoder;
use zstd::zstd_safe::find_frame_compressed_size;

/// The most content that is compared.
const CONTENT_MAX: u64 = 1 << 20;

/// The largest window that the format allows.
const WINDOW_MAX: u64 = 1 << 27;

/// The largest block, with any window.
const BLOCK_MAX: u64 = 1 << 17;

#[derive(Arbitrary, Debug)]
struct Input {
    compressed: bool,
    pieces: Vec<Piece>,
    edits: Vec<Edit>,
    size: Declared,
    content_size: Declared,
    hash_agrees: bool,
    flow: Flow,
    buffer: Buffer,
}

/// What the file is made of before it is edited.
#[derive(Arbitrary, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Skippable(Vec<u8>),
    Frame { runs: Vec<(Vec<u8>, u16)>, level: u8, window_log: u8, checksum: bool, sized: bool, blocks: bool },
}

/// How a number in the manifest relates to the truth.
#[derive(Arbitrary, Debug)]
enum Declared {
    True,
    Off(i8),
    Any(u64),
}

impl Declared {
    fn from(&self, truth: usize) -> u64 {
        match self {
            Self::True => truth as u64,
            Self::Off(by) => (truth as u64).saturating_add_signed((*by).into()),
            Self::Any(number) => *number,
        }
    }
}

fuzz_target!(|input: Input| {
    let mut stored: Vec<u8> = input.pieces.iter().take(8).flat_map(bytes).collect();
    input.edits.iter().take(8).for_each(|edit| edit.apply(&mut stored));
    let content = if input.compressed { decompressed(&stored) } else { Some(stored.clone()) };

    let compression = if input.compressed { Compression::Zstd } else { Compression::None };
    let of_compression = |part: &Part| part.files.records.compression == compression;
    let sample = SAMPLES.iter().find(|sample| of_compression(&sample.written.manifest.parts[0]));
    let sample = sample.expect("a sample for each compression");
    let mut manifest = sample.written.manifest.clone();
    let [_, _, path] = part_paths(&manifest, &manifest.parts[0]);
    let records = &mut manifest.parts[0].files.records;
    records.size = input.size.from(stored.len());
    records.content_size = match input.compressed {
        true => input.content_size.from(content.as_ref().map_or(0, Vec::len)),
        false => records.size,
    };
    if input.hash_agrees {
        records.sha256 = Sha256::digest(&stored).iter().map(|byte| format!("{byte:02x}")).collect();
    }
    let is_odd = input.compressed && has_overlong_run(&stored);
    let declared = records.content_size;
    let agrees = input.hash_agrees && records.size == stored.len() as u64;

    let store = Memory::new(sample.files.clone(), input.flow);
    store.files().insert(manifest_path(), serde_json::to_vec(&manifest).expect("JSON"));
    store.files().insert(path.clone(), stored);
    let manifest = reader::manifest(&store, TARGET, NUMBER).expect("a manifest that agrees with itself");
    let records = reader::records(&store, &manifest, &manifest.parts[0]).expect("a file");
    // No more than was declared is handed out, not even before an error.
    let most = declared.min(CONTENT_MAX) as usize;
    match drain(records, input.buffer.bytes(), most).map_err(Error::from) {
        // A bomb, cut off.
        Ok(read) if read.len() as u64 > CONTENT_MAX => assert!(read.len() as u64 <= declared),
        Ok(read) => {
            assert_eq!(Some(&read), content.as_ref());
            assert_eq!(read.len() as u64, declared);
            assert!(agrees, "what the manifest says is what was read");
        }
        Err(Error::Damaged { path: named, batch: NUMBER, reason }) => {
            assert!(named.ends_with(&path));
            let right = agrees && content.is_some_and(|content| content.len() as u64 == declared);
            assert!(is_odd || !right, "refused for nothing: {reason}");
        }
        Err(error) => panic!("{error}"),
    }
});

fn bytes(piece: &Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes.clone(),
        Piece::Skippable(bytes) => {
            [&0x184D_2A50_u32.to_le_bytes(), &(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat()
        }
        Piece::Frame { runs, level, window_log, checksum, sized, blocks } => {
            let run = |(bytes, length): &(Vec<u8>, u16)| {
                bytes.iter().copied().cycle().take((*length).into()).collect()
            };
            let runs: Vec<Vec<u8>> = runs.iter().map(run).take(8).collect();
            let size = runs.iter().map(Vec::len).sum::<usize>() as u64;
            let mut encoder = Encoder::new(Vec::new(), i32::from(level % 4)).expect("a level");
            encoder.window_log(10 + u32::from(window_log % 10)).expect("a window");
            encoder.include_checksum(*checksum).expect("a checksum");
            encoder.set_pledged_src_size(sized.then_some(size)).expect("a size");
            for run in runs {
                encoder.write_all(&run).expect("memory");
                if *blocks {
                    encoder.flush().expect("memory");
                }
            }
            encoder.finish().expect("as much as was said")
        }
    }
}

/// The content of a file that is one frame of the kind that the format allows.
fn decompressed(stored: &[u8]) -> Option<Vec<u8>> {
    let (window, _) = header(stored)?;
    let is_one = window <= WINDOW_MAX && find_frame_compressed_size(stored) == Ok(stored.len());
    zstd::bulk::decompress(stored, CONTENT_MAX as usize).ok().filter(|_| is_one)
}

/// Says whether a frame repeats a byte more often than a block may: RFC 8878, section 3.1.1.2.3. Zstandard
/// minds only where it has to hold the block in its window.
fn has_overlong_run(frame: &[u8]) -> bool {
    let Some((window, mut blocks)) = header(frame) else { return false };
    while let [low, middle, high, rest @ ..] = blocks {
        let header = u32::from_le_bytes([*low, *middle, *high, 0]);
        let (is_last, is_run, size) = (header & 1 == 1, header >> 1 & 3 == 1, header >> 3);
        if is_run && u64::from(size) > window.min(BLOCK_MAX) {
            return true;
        }
        let length = if is_run { 1 } else { size as usize };
        blocks = if is_last { &[] } else { rest.get(length..).unwrap_or_default() };
    }
    false
}

/// The window that a frame asks for, and its blocks, if it is a Zstandard frame without dictionary: RFC 8878,
/// section 3.1.1.
fn header(frame: &[u8]) -> Option<(u64, &[u8])> {
    let (descriptor, fields) = frame.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let (window, fields) = fields.split_at_checked(usize::from(!is_single_segment))?;
    let (dictionary, fields) = fields.split_at_checked([0, 1, 2, 4][usize::from(descriptor & 3)])?;
    let length = [usize::from(is_single_segment), 2, 4, 8][usize::from(descriptor >> 6)];
    let (size, blocks) = fields.split_at_checked(length)?;
    let window = match window {
        [window] => {
            let base = 1u64 << (10 + (window >> 3));
            base + base / 8 * u64::from(window & 7)
        }
        _ => {
            let size = size.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
            size.saturating_add(if length == 2 { 256 } else { 0 })
        }
    };
    dictionary.iter().all(|byte| *byte == 0).then_some((window, blocks))
}
