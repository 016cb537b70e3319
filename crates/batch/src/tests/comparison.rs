//! Rows of a table, compared with a run of batches: what is found is what a model finds.

use std::collections::BTreeSet;
use std::io::{Cursor, Seek};

use super::compaction::{State, Step, apply, key, note, publish, record, step};
use super::*;
use crate::csv::Records;
use crate::{
    Difference, Differences, Expected, Layout, Reading, Repair, Repaired, Replaced, Sample, Scratch, Sums,
    line_of, values_of,
};

/// The columns are note, b, a; the key is a, b.
fn layout(sample: Option<Sample>) -> Layout {
    Layout { key: vec![2, 1], compared: None, sample }
}

fn scratch(limit: Option<u64>) -> Scratch {
    Scratch { file: tempfile::tempfile().unwrap(), limit }
}

/// Compares rows with batches, and returns what is found, and the examples as `what key: columns`.
fn compare(
    place: &Place,
    run: &[Manifest],
    rows: &[(String, String)],
    (left_out, sample): (&[String], Option<Sample>),
    memory: u64,
) -> (Differences, Vec<String>) {
    let reading = Reading { store: &*place.store, memory, interrupted: || false, doing: "verify" };
    let first = run.iter().rposition(|manifest| manifest.parts[0].kind == Kind::Full);
    let (is_partial, run) = (first.is_none(), &run[first.unwrap_or(0)..]);
    let mut expected = Expected::new(layout(sample), 100, memory, scratch(None));
    let replaced = Replaced::by(run.iter().map(|manifest| (manifest, &manifest.parts[0]))).unwrap();
    for (place, manifest) in run.iter().enumerate() {
        let part = &manifest.parts[0];
        reading.each_id(manifest, part, |line| expected.id(line)).unwrap();
        let is_gone = |line: &[u8]| replaced.is_gone(place, (manifest, part), line, &layout(sample).key);
        reading.each_record(manifest, part, |line| expected.record(line, is_gone(line)?)).unwrap();
    }
    let mut keys = expected.left_out();
    left_out.iter().for_each(|key| writeln!(keys, "{key}").unwrap());
    let expected = keys.finish();
    let mut table = expected.rows(layout(sample), scratch(None));
    let lines = rows.iter().map(|(key, note)| record((key, note))).collect::<String>();
    // In pieces that end anywhere.
    lines.as_bytes().chunks(7).for_each(|piece| table.write_all(piece).unwrap());
    let is_compared = |(key, _): &&(String, String)| sample.is_none_or(|sample| sample.has(key.as_bytes()));
    assert_eq!(table.count(), rows.iter().filter(is_compared).count() as u64);
    let found = expected.compare(table, is_partial, 100, || Ok(())).unwrap();
    let (mut in_store, mut here) = (found.search(layout(sample)), found.search(layout(sample)));
    for manifest in run {
        let take = |line: &[u8]| {
            in_store.record(line);
            Ok(())
        };
        reading.each_record(manifest, &manifest.parts[0], take).unwrap();
    }
    here.write_all(lines.as_bytes()).unwrap();
    let examples = found.examples(&in_store, &here).into_iter().map(|example| {
        let key = String::from_utf8(example.key).unwrap();
        format!("{:?} {key}: {:?}", example.difference, example.columns)
    });
    let examples = examples.collect();
    (found, examples)
}

/// Compares rows by sums with batches that begin with a full one, and returns whether they are equal and how
/// many rows there are and keys are left out; `None` if this way does not tell.
fn by_sums(
    place: &Place,
    run: &[Manifest],
    rows: &[(String, String)],
    (left_out, sample): (&[String], Option<Sample>),
    memory: u64,
) -> Option<Option<(u64, u64)>> {
    let reading = Reading { store: &*place.store, memory, interrupted: || false, doing: "verify" };
    let first = run.iter().rposition(|manifest| manifest.parts[0].kind == Kind::Full)?;
    let parts = run[first..].iter().map(|manifest| (manifest, &manifest.parts[0])).collect::<Vec<_>>();
    let ids = parts.iter().map(|(_, part)| part.ids).sum();
    let mut sums = Sums::new(layout(sample), ids, memory)?;
    for (place, (manifest, part)) in (0..).zip(&parts) {
        let take = |line: &[u8]| {
            sums.id(place, line);
            Ok(())
        };
        reading.each_id(manifest, part, take).unwrap();
    }
    let mut keys = sums.left_out();
    left_out.iter().for_each(|key| writeln!(keys, "{key}").unwrap());
    let mut sums = keys.finish();
    let replaced = Replaced::by(parts.clone()).unwrap();
    for (place, (manifest, part)) in (0..).zip(&parts) {
        let take = |line: &[u8]| {
            let is_gone = replaced.is_gone(place as usize, (manifest, part), line, &layout(sample).key)?;
            sums.record(place, line, is_gone);
            Ok(())
        };
        reading.each_record(manifest, part, take).unwrap();
    }
    if sums.is_unknown() {
        return None;
    }
    let mut table = sums.rows(layout(sample));
    let lines = rows.iter().map(|(key, note)| record((key, note))).collect::<String>();
    lines.as_bytes().chunks(7).for_each(|piece| table.write_all(piece).unwrap());
    Some(table.finish().map(|equal| (equal.rows, equal.left_out)))
}

/// Returns rows after a repair has been applied to them as changes are.
fn repaired(
    place: &Place,
    run: &[Manifest],
    rows: &State,
    found: &Differences,
    sample: Option<Sample>,
) -> State {
    let reading = Reading { store: &*place.store, memory: 1 << 20, interrupted: || false, doing: "repair" };
    let first = run.iter().rposition(|manifest| manifest.parts[0].kind == Kind::Full).unwrap_or(0);
    let mut here = Repair::of(found, layout(sample), scratch(None), scratch(None)).rows(layout(sample));
    rows.iter().for_each(|(key, note)| here.write_all(record((key, note)).as_bytes()).unwrap());
    let mut repair = here.finish();
    let parts = run[first..].iter().map(|manifest| (manifest, &manifest.parts[0]));
    let replaced = Replaced::by(parts.clone()).unwrap();
    let parts = parts.enumerate();
    for (place, (manifest, part)) in parts.clone() {
        let take = |line: &[u8]| {
            repair.id(place, line);
            Ok(())
        };
        reading.each_id(manifest, part, take).unwrap();
    }
    for (place, (manifest, part)) in parts {
        let take = |line: &[u8]| {
            let is_gone = replaced.is_gone(place, (manifest, part), line, &layout(sample).key)?;
            if is_gone { Ok(()) } else { repair.record(place, line) }
        };
        reading.each_record(manifest, part, take).unwrap();
    }
    let [ids, records] = {
        let Repaired { ids, records } = repair.finish().unwrap();
        [ids, records].map(|lines| {
            let mut file = lines.file;
            file.rewind().unwrap();
            let text = io::read_to_string(file).unwrap();
            assert_eq!(text.lines().count() as u64, lines.lines);
            text
        })
    };
    let mut state = rows.clone();
    assert_eq!(ids.lines().collect::<BTreeSet<_>>().len(), ids.lines().count(), "each id is there once");
    ids.lines().for_each(|key| {
        state.remove(key);
    });
    for line in records.lines() {
        let [note, b, a] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(state.insert(format!("{a}\t{b}"), note.to_owned()).is_none(), "{line} has an id");
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_difference_is_found_and_no_other(
        start in proptest::collection::btree_map(key(), note(), 0..12),
        steps in vec(step(), 0..6),
        begins_with in 0..2usize,
        spoilt in proptest::collection::btree_map(key(), proptest::option::of(note()), 0..6),
        left_out in proptest::collection::btree_set(key(), 0..4),
        memory in prop_oneof![Just(1u64), Just(1000), Just(1 << 14), Just(1 << 20)],
        sample in proptest::option::of((1..=2u64).prop_map(|share| Sample { share, shares: 2 })),
    ) {
        let place = Place::new();
        let steps = [vec![Step::Replace(start)], steps].concat();
        let batches = publish(&place, &steps);
        let run = &batches[begins_with.min(batches.len() - 1)..];
        let is_partial = run.iter().all(|manifest| manifest.parts[0].kind == Kind::Changes);
        let mut state = State::new();
        steps.iter().for_each(|step| apply(&mut state, step));
        // With changes alone, only the keys that they name are known.
        let of_changes = |step: &Step| match step {
            Step::Change(rows, _) => rows.keys().cloned().collect::<Vec<_>>(),
            Step::Replace(_) => Vec::new(),
        };
        let named = steps[begins_with.min(steps.len() - 1)..].iter().flat_map(of_changes).collect::<BTreeSet<_>>();
        let is_in_sample = |key: &&String| sample.is_none_or(|sample| sample.has(key.as_bytes()));
        let is_judged = |key: &String| {
            is_in_sample(&key) && !left_out.contains(key) && (!is_partial || named.contains(key))
        };

        let mut table = state.clone();
        apply(&mut table, &Step::Change(spoilt, Vec::new()));
        let rows = table.clone().into_iter().collect::<Vec<_>>();
        let keys = left_out.iter().cloned().collect::<Vec<_>>();
        let (found, mut examples) = compare(&place, run, &rows, (&keys, sample), memory);
        let all = state.keys().chain(table.keys()).collect::<BTreeSet<_>>();
        let wrong = all.into_iter().filter(|key| is_judged(key)).filter_map(|key| {
            match (state.get(key), table.get(key)) {
                (Some(_), None) => Some(format!("{:?} {key}: []", Difference::Missing)),
                (None, Some(_)) => Some(format!("{:?} {key}: []", Difference::Extra)),
                (one, other) => (one != other).then(|| format!("{:?} {key}: [0]", Difference::Different)),
            }
        });
        let mut wrong = wrong.collect::<Vec<_>>();
        wrong.sort();
        examples.sort();
        prop_assert_eq!(examples, wrong.clone());
        let count = |what: &str| wrong.iter().filter(|wrong| wrong.starts_with(what)).count() as u64;
        let counts = (found.missing, found.extra, found.different);
        prop_assert_eq!(counts, (count("Missing"), count("Extra"), count("Different")));
        prop_assert_eq!(found.is_empty(), wrong.is_empty());
        let left_out = left_out.iter().filter(is_in_sample).count() as u64;
        prop_assert_eq!(found.left_out, left_out);
        match by_sums(&place, run, &rows, (&keys, sample), memory) {
            None => prop_assert!(is_partial || memory <= 1000),
            Some(equal) => {
                let counts = (table.keys().filter(is_in_sample).count() as u64, left_out);
                prop_assert_eq!(equal, found.is_empty().then_some(counts));
            }
        }
        let judged = |state: &State| {
            let rows = state.iter().filter(|(key, _)| is_judged(key));
            rows.map(|(key, note)| (key.clone(), note.clone())).collect::<State>()
        };
        let repaired = repaired(&place, run, &table, &found, sample);
        prop_assert_eq!(judged(&repaired), judged(&state));
        prop_assert!(table.iter().all(|(key, note)| is_judged(key) || repaired.get(key) == Some(note)));
    }

    #[test]
    fn values_are_the_same_from_a_line_and_from_csv(
        values in vec(proptest::option::of("[a\\\\N\t\n\r\u{8}\u{b}\u{c}\",.é]{0,4}"), 1..4),
    ) {
        let line = line_of(values.iter().map(Option::as_deref));
        prop_assert_eq!(&values_of(&line), &values);
        let fields = values.iter().map(|value| match value {
            None => String::new(),
            Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
                format!("\"{}\"", value.replace('"', "\"\""))
            }
            Some(value) => value.clone(),
        });
        let csv = format!("{0}\n{0}\n", fields.collect::<Vec<_>>().join(","));
        let mut records = Records::of(io::BufReader::with_capacity(3, Cursor::new(csv)));
        for _ in 0..2 {
            prop_assert_eq!(records.next_as_text().unwrap().map(<[u8]>::to_vec), Some(line.clone()));
        }
        prop_assert!(records.next_as_text().unwrap().is_none());
    }
}

#[test]
fn one_more_row_of_a_key_is_extra() {
    let place = Place::new();
    let rows = State::from([("1\ta".to_owned(), "x".to_owned())]);
    let batches = publish(&place, &[Step::Replace(rows.clone())]);
    let rows = rows.into_iter().collect::<Vec<_>>();
    let twice = [rows.clone(), rows].concat();
    let (found, examples) = compare(&place, &batches, &twice, (&[], None), 1 << 20);
    assert_eq!((found.missing, found.extra, found.different), (0, 1, 0));
    assert_eq!(examples, ["Extra 1\ta: []"]);
    assert_eq!(by_sums(&place, &batches, &twice, (&[], None), 1 << 20), Some(None));
}

#[test]
fn each_key_is_in_one_share_and_stays_there() {
    let share_of = |key: &str| {
        let shares = (1..=7).filter(|&share| Sample { share, shares: 7 }.has(key.as_bytes()));
        let [share] = shares.collect::<Vec<_>>()[..] else { panic!("{key} is in another number of shares") };
        share
    };
    assert_eq!(["1", "2", "1\ta", ""].map(share_of), [7, 4, 3, 2]);
    let mut sizes = [0; 7];
    (0..7000).for_each(|key| sizes[share_of(&key.to_string()) as usize - 1] += 1);
    assert!(sizes.iter().all(|size| (900..1100).contains(size)), "{sizes:?}");
}

#[test]
fn sums_tell_nothing_of_a_record_whose_key_is_not_named() {
    let mut sums = Sums::new(layout(None), 0, 1 << 20).unwrap();
    sums.record(0, b"x\tb\t1", false);
    assert!(!sums.is_unknown());
    sums.record(1, b"x\tb\t1", false);
    assert!(sums.is_unknown());
}

#[test]
fn sums_tell_nothing_if_keys_do_not_fit_into_memory() {
    let memory = 48;
    assert!(Sums::new(layout(None), 2, memory).is_none());
    let mut keys = Sums::new(layout(None), 1, memory).unwrap().left_out();
    keys.write_all(b"1\ta\n").unwrap();
    let sums = keys.finish();
    assert!(!sums.is_unknown());
    let mut keys = sums.left_out();
    keys.write_all(b"2\ta\n").unwrap();
    assert!(keys.finish().is_unknown());
}

#[test]
fn records_in_csv_that_do_not_end_are_refused() {
    for csv in ["1,\"a", "1,a"] {
        let mut records = Records::of(Cursor::new(csv));
        assert!(records.next_as_text().is_err(), "{csv}");
    }
}

#[test]
fn a_temporary_file_stays_below_its_limit() {
    let mut expected = Expected::new(layout(None), 1, 1 << 20, scratch(Some(1)));
    let mut last = Ok(());
    for key in 0..10_000 {
        last = expected.id(format!("{key}\ta").as_bytes());
        if last.is_err() {
            break;
        }
    }
    assert!(matches!(last, Err(Error::ScratchLimit { limit: 1 })), "{last:?}");
}
