//! Names in a store, and names of tables and targets on their way there: docs/format.md, written out once
//! more, says the same of each as the code.
#![no_main]

use std::collections::BTreeSet;

use batch::reader;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pg_table_export_fuzz::memory::{Files, Flow, Memory};
use store::encode;

#[derive(Arbitrary, Debug)]
struct Input {
    text: String,
    entries: Vec<(String, Entry)>,
    after: u64,
}

/// A name in the folder of manifests.
#[derive(Arbitrary, Debug)]
enum Entry {
    Any(String),
    Number(u64),
    Digits { number: u64, width: u8 },
}

fuzz_target!(|input: Input| {
    assert_eq!(encode(&input.text).ok(), encoded(&input.text));

    let mut files = Files::new();
    for (folder, entry) in &input.entries {
        let entry = match entry {
            Entry::Any(text) => text.clone(),
            Entry::Number(number) => format!("{:010}.json", number % 20_000_000_000),
            Entry::Digits { number, width } => {
                format!("{number:0width$}.json", width = usize::from(width % 13))
            }
        };
        if [folder, &entry].iter().all(|name| !name.is_empty() && !name.contains(['/', '\0'])) {
            files.insert(format!("{folder}/manifest/{entry}"), Vec::new());
        }
    }
    let store = Memory::new(files.clone(), Flow::default());
    let folders: BTreeSet<_> = files.keys().filter_map(|path| path.split('/').next()).collect();
    let folders = folders.into_iter().filter(|folder| !folder.starts_with('.'));

    let targets = reader::targets(&store).expect("memory");
    let expected: Vec<_> = folders.filter_map(decoded).collect();
    assert_eq!(targets, expected);
    for target in targets {
        let folder = format!("{}/manifest/", encoded(&target).expect("a target"));
        let names = files.keys().filter_map(|path| path.strip_prefix(&folder));
        let expected = names.filter_map(number).filter(|number| *number > input.after);
        let numbers = reader::numbers(&store, &target, input.after).expect("memory");
        assert_eq!(numbers, expected.collect::<Vec<_>>());
        assert!(numbers.is_sorted());
    }
});

/// The component of a path that stands for a text.
fn encoded(text: &str) -> Option<String> {
    let mut encoded = String::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => encoded.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    (1..=255).contains(&encoded.len()).then_some(encoded)
}

/// The text that a component stands for, if it is the one that does.
fn decoded(component: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), component.bytes());
    while let Some(byte) = rest.next() {
        let digits = [byte, rest.clone().next().unwrap_or(0), rest.clone().nth(1).unwrap_or(0)];
        match digits {
            [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = String::from_utf8(vec![high, low]).ok()?;
                bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                rest.nth(1);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok().filter(|text| encoded(text).as_deref() == Some(component))
}

/// The number of a manifest: ten digits and `.json`, from 1.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    let is_number = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && *number > 0)
}
