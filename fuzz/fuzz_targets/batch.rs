//! A real batch, changed in any files at any places, is read as it was written, or refused with the name of a
//! file that was changed.
#![no_main]

use batch::{Error, Manifest};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pg_table_export_fuzz::edit::Edit;
use pg_table_export_fuzz::memory::{Buffer, Files, Flow, Memory};
use pg_table_export_fuzz::sample::{Batch, NUMBER, SAMPLES, Sample, manifest_path, names, part_paths};

/// More could make files grow beyond all memory, for each can double one.
const FATES_MAX: usize = 8;

/// What happens to a sample. Numbers are taken modulo what there is.
#[derive(Arbitrary, Debug)]
struct Input {
    sample: u8,
    fates: Vec<(u8, Fate)>,
    broken: Option<(u8, u16)>,
    flow: Flow,
    buffer: Buffer,
}

/// What happens to a file.
#[derive(Arbitrary, Debug)]
enum Fate {
    Edited(Edit),
    Removed,
    Swapped { with: u8 },
    Extended { by: u8 },
}

fuzz_target!(|input: Input| {
    let sample = &SAMPLES[usize::from(input.sample) % SAMPLES.len()];
    let mut files = sample.files.clone();
    for (file, fate) in input.fates.iter().take(FATES_MAX) {
        befall(&mut files, *file, fate);
    }
    let mut store = Memory::new(files.clone(), input.flow);
    let paths: Vec<_> = sample.files.keys().collect();
    let mut faults = batch_paths(sample);
    faults.retain(|path| files.get(path) != sample.files.get(path));
    let manifest_changed = faults.contains(&manifest_path());
    if let Some((file, after)) = input.broken {
        let path = paths[usize::from(file) % paths.len()];
        store = store.breaking(path, after.into());
        if batch_paths(sample).contains(path) && files.contains_key(path) {
            faults.push(path.clone());
        }
    }
    let read = Batch::read(&store, input.buffer.bytes());
    let written = &sample.written;
    match read {
        Ok(read) if manifest_changed => check_rows(&read, written),
        Ok(read) => {
            assert_eq!(&read, written);
            assert!(faults.is_empty(), "a fault that was not seen: {faults:?}");
        }
        Err(error) if manifest_changed => assert!(!matches!(error, Error::Stream(_))),
        Err(Error::Damaged { path, batch, .. }) => {
            assert_eq!(batch, NUMBER);
            assert!(faults.iter().any(|fault| path.ends_with(fault)), "{path} is as it was");
        }
        Err(Error::Store(error)) => assert!(faults.iter().any(|fault| names(&error, fault)), "{error}"),
        Err(error) => panic!("{error}"),
    }
});

/// The paths of what makes up the batch that is read.
fn batch_paths(sample: &Sample) -> Vec<String> {
    let Manifest { parts, .. } = &sample.written.manifest;
    let paths = parts.iter().flat_map(|part| part_paths(&sample.written.manifest, part));
    paths.chain([manifest_path()]).collect()
}

/// Another manifest may say other things of the batch, but no other rows of a table.
fn check_rows(read: &Batch, written: &Batch) {
    for (part, contents) in read.manifest.parts.iter().zip(&read.contents) {
        let parts = &written.manifest.parts;
        let same = parts.iter().position(|other| (&other.schema, &other.name) == (&part.schema, &part.name));
        let same = same.expect("a table that was written");
        assert_eq!(contents, &written.contents[same]);
        assert_eq!((&part.columns, &part.key), (&parts[same].columns, &parts[same].key));
    }
}

fn befall(files: &mut Files, file: u8, fate: &Fate) {
    let path = |file: u8| files.keys().nth(usize::from(file) % files.len().max(1)).cloned();
    let Some(path_of_file) = path(file) else { return };
    let other = match fate {
        Fate::Swapped { with: other } | Fate::Extended { by: other } => path(*other),
        _ => None,
    };
    let other_content = other.as_ref().map(|other| files[other].clone()).unwrap_or_default();
    let Some(content) = files.get_mut(&path_of_file) else { return };
    match fate {
        Fate::Edited(edit) => edit.apply(content),
        Fate::Extended { .. } => content.extend(other_content),
        Fate::Removed => drop(files.remove(&path_of_file)),
        Fate::Swapped { .. } => {
            let before = std::mem::replace(content, other_content);
            files.extend(other.map(|other| (other, before)));
        }
    }
}
