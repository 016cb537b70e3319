//! Runs of batches, merged into one: it does what they do, from wherever it may start.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::{BatchRange, COMPACTION_MAX, Keep, Link, Reading, Removed, compact_part, expire, leave_receipt};
use crate::{Bound, Condition, Range};
use crate::{Receipt, compacted::Compacted, put_cumulative};
use store::Upload;

pub(super) type State = BTreeMap<String, String>;

/// What a batch does to the table: replaces it, or writes and deletes rows of it, and replaces ranges.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Replace(State),
    Change(BTreeMap<String, Option<String>>, Vec<Range>),
}

/// A table whose key is not its first column, and is of two.
fn pairs(kind: Kind) -> Table {
    let columns =
        vec![column("note", "text", false), column("b", "text", true), column("a", "integer", true)];
    Table { schema: "public".into(), name: "pairs".into(), columns, key: vec!["a".into(), "b".into()], kind }
}

pub(super) fn record((key, note): (&String, &String)) -> String {
    let (a, b) = key.split_once('\t').unwrap();
    format!("{note}\t{b}\t{a}\n")
}

pub(super) fn apply(state: &mut State, step: &Step) {
    match step {
        Step::Replace(rows) => *state = rows.clone(),
        Step::Change(rows, ranges) => {
            state.retain(|key, _| rows.contains_key(key) || !ranges.iter().any(|range| lies_in(key, range)));
            for (key, note) in rows {
                match note {
                    Some(note) => state.insert(key.clone(), note.clone()),
                    None => state.remove(key),
                };
            }
        }
    }
}

fn lies_in(key: &str, range: &Range) -> bool {
    let (a, b) = key.split_once('\t').unwrap();
    let (a, b) = (a.parse::<i32>().unwrap(), b.replace(r"\t", "\t"));
    let bound =
        |bound: &Option<Bound>| Some((bound.as_ref()?.values[0].parse().ok()?, bound.as_ref()?.inclusive));
    range.iter().all(|condition| match condition {
        Condition::Between { from, to, .. } => {
            bound(from).is_none_or(|(from, inclusive): (i32, _)| a > from || (inclusive && a == from))
                && bound(to).is_none_or(|(to, inclusive)| a < to || (inclusive && a == to))
        }
        Condition::In { values, .. } => values.contains(&b),
    })
}

fn range() -> impl Strategy<Value = Range> {
    let bound = || {
        let bound = (0..4i32, any::<bool>());
        bound.prop_map(|(value, inclusive)| Bound { values: vec![value.to_string()], inclusive })
    };
    let between = (proptest::option::of(bound()), bound());
    let between =
        between.prop_map(|(from, to)| Condition::Between { columns: vec!["a".into()], from, to: Some(to) });
    let values = proptest::collection::btree_set(prop_oneof!["[a-c]", Just("tab\t".to_owned())], 1..3);
    let within =
        values.prop_map(|values| Condition::In { column: "b".into(), values: values.into_iter().collect() });
    prop_oneof![
        between.clone().prop_map(|between| vec![between]),
        within.clone().prop_map(|within| vec![within]),
        (between, within).prop_map(|(between, within)| vec![between, within]),
    ]
}

/// Publishes what steps do, each as a batch that follows on the one before.
pub(super) fn publish(place: &Place, steps: &[Step]) -> Vec<Manifest> {
    let mut published = Vec::<Manifest>::new();
    for (number, step) in (1..).zip(steps) {
        let mut ranges = Vec::new();
        let (kind, ids, records) = match step {
            Step::Replace(rows) => (Kind::Full, String::new(), rows.iter().map(record).collect::<String>()),
            Step::Change(rows, replaced) => {
                ranges.clone_from(replaced);
                let ids = rows.keys().map(|key| format!("{key}\n")).collect();
                let kept = rows.iter().filter_map(|(key, note)| Some((key, note.as_ref()?)));
                (Kind::Changes, ids, kept.map(record).collect())
            }
        };
        let writer = place.writer(number, Compression::Zstd);
        let part = Part { ranges, ..write(&writer, &pairs(kind), ids.as_bytes(), records.as_bytes()) };
        let previous = published.last().map(|manifest| manifest.id);
        published.push(writer.publish(Header { previous, ..header(kind) }, vec![part]).unwrap());
    }
    published
}

fn compacted(place: &Place, run: &[Manifest], memory: u64) -> Result<Part, Error> {
    let writer = place.writer(run.last().unwrap().number, Compression::Zstd);
    let reading = Reading { store: &*place.store, memory, interrupted: || false, doing: "compact" };
    let parts = run.iter().map(|manifest| (manifest, &manifest.parts[0])).collect::<Vec<_>>();
    let part = compact_part(&writer, reading, &parts)?;
    let link = |manifest: &Manifest| Link { number: manifest.number, id: manifest.id };
    let follows =
        if part.kind == Kind::Full { vec![] } else { run[..run.len() - 1].iter().map(link).collect() };
    let previous = follows.first().filter(|_| !part.kind.begins()).map(|link| link.id);
    let header = Header { previous, ..header(part.kind) };
    writer.publish_compacted(header, vec![part.clone()], run.last().unwrap().id, follows)?;
    Ok(part)
}

/// Reads a step out of the compacted batch with that name.
fn read(place: &Place, run: BatchRange) -> Step {
    let compacted = reader::compacted(&*place.store, TARGET, run).unwrap();
    let [ids, records] = <[_; 2]>::try_from(read_all(&*place.store, &compacted.batch).unwrap()).unwrap();
    let [ids, records] = [ids, records].map(|content| String::from_utf8(content).unwrap());
    let part = &compacted.batch.parts[0];
    assert_eq!((part.ids, part.records), (ids.lines().count() as u64, records.lines().count() as u64));
    let rows = records.lines().map(|line| {
        let [note, b, a] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        (format!("{a}\t{b}"), note.to_owned())
    });
    let rows = rows.collect::<Vec<_>>();
    let distinct = rows.iter().cloned().collect::<State>();
    assert_eq!(distinct.len(), rows.len(), "a key has two records");
    if part.kind == Kind::Full {
        return Step::Replace(distinct);
    }
    let keys = ids.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(keys.len() as u64, part.ids, "a key is in ids twice");
    assert!(distinct.keys().all(|key| keys.contains(key)));
    let rows = keys.into_iter().map(|key| (key.clone(), distinct.get(&key).cloned())).collect();
    Step::Change(rows, part.ranges.clone())
}

pub(super) fn key() -> impl Strategy<Value = String> {
    (0..4i32, prop_oneof!["[a-c]{1,2}", Just(r"tab\t".to_owned()), Just(r"\N".to_owned())])
        .prop_map(|(a, b)| format!("{a}\t{b}"))
}

pub(super) fn note() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,3}", Just(r"\\ and \t and \n".to_owned()), Just(r"\N".to_owned())]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    use proptest::collection::btree_map;
    prop_oneof![
        5 => (btree_map(key(), proptest::option::of(note()), 0..12), vec(range(), 0..2))
            .prop_map(|(rows, ranges)| Step::Change(rows, ranges)),
        1 => btree_map(key(), note(), 0..12).prop_map(Step::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Applied to any state that the run has passed through, and to the one before it, it leads to the state
    /// after it.
    #[test]
    fn a_compacted_batch_does_what_the_run_does(
        start in proptest::collection::btree_map(key(), note(), 0..12),
        steps in vec(step(), 1..8),
        memory in prop_oneof![Just(1u64), Just(200), Just(1 << 20)],
    ) {
        let place = Place::new();
        let steps = [vec![Step::Replace(start)], steps].concat();
        let batches = publish(&place, &steps);
        let mut states = vec![State::new()];
        for step in &steps {
            let mut state = states.last().unwrap().clone();
            apply(&mut state, step);
            states.push(state);
        }
        let last = batches.len() as u64;
        compacted(&place, &batches, memory).unwrap();
        let Step::Replace(rows) = read(&place, BatchRange { last, after: 0 }) else { panic!("it is not full") };
        prop_assert_eq!(&rows, &states[batches.len()]);
        if batches.len() > 2 {
            let part = compacted(&place, &batches[1..], memory);
            // Of a run with a full part in it the same full part comes out, and there is one already.
            if let Ok(Part { kind: Kind::Changes, .. }) = part {
                let step = read(&place, BatchRange { last, after: 2 });
                for state in &states[1..] {
                    let mut state = state.clone();
                    apply(&mut state, &step);
                    prop_assert_eq!(&state, &states[batches.len()]);
                }
            }
        }
    }
}

fn change(rows: &[(&str, Option<&str>)]) -> Step {
    let rows = rows.iter().map(|(key, note)| ((*key).into(), note.map(str::to_owned)));
    Step::Change(rows.collect(), Vec::new())
}

#[test]
fn a_baseline_is_compacted_with_the_changes_after_it() {
    let place = Place::new();
    let publish = |number, kind, ids: &[u8], records: &[u8]| {
        let writer = place.writer(number, Compression::Zstd);
        let part = write(&writer, &pairs(kind), ids, records);
        writer.publish(header(kind), vec![part]).unwrap()
    };
    let batches = [
        publish(1, Kind::Baseline, b"", b""),
        publish(2, Kind::Changes, b"1\ta\n2\tb\n", b"x\ta\t1\ny\tb\t2\n"),
        publish(3, Kind::Changes, b"2\tb\n", b""),
    ];
    assert_eq!(compacted(&place, &batches, 1 << 20).unwrap().kind, Kind::Baseline);
    let step = read(&place, BatchRange { last: 3, after: 0 });
    assert!(step == change(&[("1\ta", Some("x")), ("2\tb", None)]), "what a copy has before it is not said");
    // A copy in the middle of such a run may have begun with it.
    let manifest = Manifest { kind: Kind::Changes, ..batches[0].clone() };
    let follows = vec![Link { number: 1, id: batches[1].id }];
    assert!(put_cumulative(&*place.store, manifest, follows).is_err());
}

#[test]
fn what_does_not_fit_together_is_not_merged() {
    let place = Place::new();
    let mut batches = publish(&place, &[change(&[("1\ta", Some("x"))]), change(&[("1\ta", None)])]);
    let refused = |batches: &[Manifest]| match compacted(&place, batches, 1 << 20) {
        Err(Error::Unmergeable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let writer = place.writer(3, Compression::Zstd);
    let part = write(&writer, &pairs(Kind::Changes), b"1\ta\n", b"x\tb\t1\n");
    batches.push(writer.publish(header(Kind::Changes), vec![part]).unwrap());
    assert!(refused(&batches).contains("whose key is not in its ids"));

    let writer = place.writer(4, Compression::Zstd);
    let mut table = pairs(Kind::Changes);
    table.columns[0].type_name = "bytea".into();
    let part = write(&writer, &table, b"1\ta\n", b"");
    let other = writer.publish(header(Kind::Changes), vec![part]).unwrap();
    assert!(refused(&[batches[0].clone(), other]).contains("other columns"));
    batches[0].parts[0].format = Format::Csv;
    assert!(refused(&batches[..2]).contains("text format"));
}

#[test]
fn more_ranges_than_a_batch_can_have_are_not_merged() {
    let place = Place::new();
    let ranges = |from: usize| {
        let range = |value: usize| Condition::In { column: "a".into(), values: vec![value.to_string()] };
        (from..from + 60).map(|value| vec![range(value)]).collect()
    };
    let steps = [0, 60].map(|from| Step::Change(BTreeMap::new(), ranges(from)));
    let batches = publish(&place, &steps);
    let refused = compacted(&place, &batches, 1 << 20);
    assert!(matches!(&refused, Err(Error::Unmergeable { reason, .. }) if reason.contains("more ranges")));
}

#[test]
fn damage_is_not_merged() {
    let place = Place::new();
    let batches = publish(&place, &[change(&[("1\ta", Some("x"))]), change(&[("2\ta", Some("y"))])]);
    for manifest in &batches {
        for file in [&manifest.parts[0].files.ids, &manifest.parts[0].files.records] {
            let path = place.directory.path().join(path::data(TARGET, manifest.number, manifest.id).unwrap());
            let path = path.join(&file.name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() - 1]).unwrap();
            let refused = compacted(&place, &batches, 1 << 20);
            assert!(matches!(&refused, Err(Error::Damaged { .. })), "{refused:?}");
            fs::write(&path, whole).unwrap();
        }
    }
    assert!(reader::runs(&*place.store, TARGET, 0).unwrap().is_empty());
    compacted(&place, &batches, 1 << 20).unwrap();
}

#[test]
fn a_compaction_stops_when_it_is_told_to() {
    let place = Place::new();
    let batches = publish(&place, &[change(&[("1\ta", Some("x"))]), change(&[("2\ta", Some("y"))])]);
    let parts = batches.iter().map(|manifest| (manifest, &manifest.parts[0])).collect::<Vec<_>>();
    for run in [&parts[..1], &parts[..]] {
        let writer = place.writer(2, Compression::Zstd);
        let reading =
            Reading { store: &*place.store, memory: 1 << 20, interrupted: || true, doing: "compact" };
        let stopped = compact_part(&writer, reading, run);
        assert!(matches!(stopped, Err(Error::Store(store::Error::Interrupted { .. }))));
    }
}

#[test]
fn of_two_who_compact_one_run_one_wins() {
    let place = Place::new();
    let batches = publish(&place, &[change(&[("1\ta", Some("x"))]), change(&[]), change(&[])]);
    compacted(&place, &batches[1..], 1 << 20).unwrap();
    let refused = compacted(&place, &batches[1..], 1 << 20);
    assert!(matches!(refused, Err(Error::Store(store::Error::Exists { .. }))));
    assert_eq!(
        place.store.list(&path::attempts(TARGET, 3).unwrap(), "").unwrap().len(),
        2,
        "it has tidied up"
    );
}

#[test]
fn a_compacted_batch_is_read_strictly() {
    let place = Place::new();
    let batches = publish(&place, &[change(&[("1\ta", Some("x"))]), change(&[]), change(&[])]);
    compacted(&place, &batches[1..], 1 << 20).unwrap();
    let run = BatchRange { last: 3, after: 2 };
    assert_eq!(reader::runs(&*place.store, TARGET, 0).unwrap(), [run]);
    assert!(reader::runs(&*place.store, TARGET, 3).unwrap().is_empty());
    let path = path::compacted(TARGET, run).unwrap();
    let file = place.directory.path().join(&path);
    let original: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let edits: [fn(&mut Value); 8] = [
        |json| json["format_version"] = json!(2),
        |json| json["more"] = json!(1),
        |json| json["follows"] = json!([]),
        |json| json["follows"][0]["number"] = json!(1),
        |json| json["follows"][0]["id"] = json!(Uuid::new_v4()),
        |json| json["batch"]["number"] = json!(4),
        |json| json["batch"]["kind"] = json!("full"),
        |json| json["batch"]["target"] = json!("other"),
    ];
    for edit in edits {
        let mut json = original.clone();
        edit(&mut json);
        fs::write(&file, json.to_string()).unwrap();
        assert!(reader::compacted(&*place.store, TARGET, run).is_err(), "{json}");
    }
    fs::write(&file, original.to_string()).unwrap();
    assert!(reader::compacted(&*place.store, TARGET, run).is_ok());
}

#[test]
fn the_examples_of_the_specification_are_a_compacted_batch_and_a_receipt() {
    let specification = include_str!("../../../../docs/format.md");
    let mut examples = specification.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut manifest: Value = serde_json::from_str(examples.next().unwrap()).unwrap();
    let mut json: Value = serde_json::from_str(examples.next().unwrap()).unwrap();
    manifest["previous"] = json["follows"][0]["id"].clone();
    json["batch"] = manifest;
    let run = BatchRange { last: 42, after: 30 };
    let compacted = Compacted::parse(json.to_string().as_bytes(), "example", TARGET, run).unwrap();
    assert!(specification.contains(compacted.render().unwrap().0.rsplit('/').next().unwrap()));
    let example = examples.next().unwrap();
    let receipt = Receipt::parse(example.as_bytes(), "example", TARGET, 42).unwrap();
    assert_eq!((receipt.number, receipt.id), (42, compacted.last));
    let place = Place::new();
    leave_receipt(&*place.store, TARGET, "1-2", Some(&receipt)).unwrap();
    assert_eq!(reader::receipt(&*place.store, TARGET, "1-2").unwrap(), Some(receipt));
    let name = place.store.list("reporting/receipts/1-2", "").unwrap().pop().unwrap();
    let mut left = String::new();
    place.store.get(&format!("{TARGET}/receipts/1-2/{name}")).unwrap().read_to_string(&mut left).unwrap();
    assert_eq!(left, example);
    assert!(specification.contains(&name), "{name}");
}

fn receipt(number: u64) -> Receipt {
    let time = || "2025-11-22T23:00:00Z".to_owned();
    Receipt::new((TARGET, number, Uuid::new_v4()), "host/database".into(), time(), time(), None)
}

#[test]
fn a_destination_has_one_receipt() {
    let place = Place::new();
    let found = || reader::receipt(&*place.store, TARGET, "1-2").unwrap().map(|receipt| receipt.number);
    for number in [Some(3), Some(3), Some(7), Some(5), None, None, Some(1)] {
        leave_receipt(&*place.store, TARGET, "1-2", number.map(receipt).as_ref()).unwrap();
        assert_eq!(found(), number);
    }
    assert_eq!(reader::destinations(&*place.store, TARGET).unwrap(), ["1-2"]);
}

#[test]
fn what_is_no_name_of_a_receipt_is_none() {
    let place = Place::new();
    for name in ["0000000042.json", "0000000042-0123456789abcdeF.json", "42-0123456789abcdef.json"] {
        place.store.put_new(&format!("{TARGET}/receipts/1-2/{name}"), b"{}").unwrap();
    }
    assert_eq!(reader::receipt(&*place.store, TARGET, "1-2").unwrap(), None);
}

/// A store in which destination 1-2 leaves its next receipts while the last one is read.
struct Replacing<'a> {
    store: &'a dyn Store,
    next: Mutex<Vec<u64>>,
}

impl Store for Replacing<'_> {
    fn put(&self, path: &str) -> Result<Box<dyn Upload>, store::Error> {
        self.store.put(path)
    }

    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), store::Error> {
        self.store.put_new(path, content)
    }

    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, store::Error> {
        if let Some(number) = self.next.lock().unwrap().pop() {
            leave_receipt(self.store, TARGET, "1-2", Some(&receipt(number))).unwrap();
        }
        self.store.get(path)
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<String>, store::Error> {
        self.store.list(folder, after)
    }

    fn remove(&self, path: &str) -> Result<(), store::Error> {
        self.store.remove(path)
    }

    fn url(&self) -> String {
        self.store.url()
    }
}

#[test]
fn a_receipt_that_is_replaced_while_it_is_read_is_read_again() {
    let place = Place::new();
    leave_receipt(&*place.store, TARGET, "1-2", Some(&receipt(1))).unwrap();
    let store = Replacing { store: &*place.store, next: Mutex::new(vec![3, 2]) };
    let read = reader::receipt(&store, TARGET, "1-2").unwrap().map(|receipt| receipt.number);
    assert_eq!(read, Some(3));
}

const LATER: &str = "2030-01-01T00:00:00Z";

fn expired(place: &Place, from: &str, latest: u64, unreceived: bool) -> Vec<u64> {
    let removed = expire(&*place.store, TARGET, &Keep { from, latest, unreceived }).unwrap();
    removed.iter().map(|Removed { number, .. }| *number).collect()
}

/// Full, changes, changes, full, changes, changes.
fn two_chains(place: &Place) -> Vec<Manifest> {
    let full = || Step::Replace(State::from([("1\ta".into(), "x".into())]));
    let some = || change(&[("1\ta", Some("y"))]);
    publish(place, &[full(), some(), some(), full(), some(), some()])
}

#[test]
fn what_a_chain_needs_never_expires() {
    let place = Place::new();
    let batches = two_chains(&place);
    assert_eq!(expired(&place, "2025-11-22T23:00:00Z", 0, false), [0; 0], "none of them is older");
    assert_eq!(expired(&place, LATER, 4, false), [1, 2]);
    assert_eq!(expired(&place, LATER, 0, true), [0; 0], "no destination has left a receipt");
    leave_receipt(&*place.store, TARGET, "1-2", Some(&receipt(2))).unwrap();
    leave_receipt(&*place.store, TARGET, "1-3", Some(&receipt(6))).unwrap();
    assert_eq!(expired(&place, LATER, 0, true), [0; 0], "one of them has not applied batch 3");
    leave_receipt(&*place.store, TARGET, "1-2", Some(&receipt(3))).unwrap();
    assert_eq!(expired(&place, LATER, 0, true), [3]);
    assert_eq!(expired(&place, LATER, 0, false), [0; 0]);
    assert_eq!(place.store.list(&format!("{TARGET}/data"), "").unwrap().len(), 3);
    compacted(&place, &batches[3..], 1 << 20).unwrap();
    assert_eq!(expired(&place, LATER, 0, false), [4, 5], "the last one is what others compare with");
    read(&place, BatchRange { last: 6, after: 0 });
}

#[test]
fn compacted_batches_expire_with_those_that_they_stand_for() {
    let place = Place::new();
    let batches = two_chains(&place);
    compacted(&place, &batches[..2], 1 << 20).unwrap();
    compacted(&place, &batches[1..3], 1 << 20).unwrap();
    compacted(&place, &batches[4..], 1 << 20).unwrap();
    let runs = || reader::runs(&*place.store, TARGET, 0).unwrap();
    assert_eq!(runs().len(), 3);
    // A compaction that is under way, and one that was cut off two days ago.
    let writer = place.writer(2, Compression::Zstd);
    write(&writer, &pairs(Kind::Changes), b"", b"");
    let two_days_ago = std::time::SystemTime::now() - 2 * COMPACTION_MAX + Duration::from_secs(1);
    let seconds = two_days_ago.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let old = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0));
    let folder = place.directory.path().join(path::attempts(TARGET, 2).unwrap());
    fs::create_dir(folder.join(old.to_string())).unwrap();
    assert_eq!(expired(&place, LATER, 0, false), [1, 2, 3]);
    assert_eq!(runs(), [BatchRange { last: 3, after: 2 }, BatchRange { last: 6, after: 5 }]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the one that is under way stays");
    read(&place, BatchRange { last: 3, after: 2 });
    read(&place, BatchRange { last: 6, after: 5 });
    drop(writer);
}

#[test]
fn a_manifest_that_cannot_be_read_expires_like_others() {
    let place = Place::new();
    two_chains(&place);
    fs::write(place.manifest_file(2), "{}").unwrap();
    assert_eq!(expired(&place, LATER, 0, false), [1, 2, 3]);
    assert!(place.store.list(&path::attempts(TARGET, 1).unwrap(), "").unwrap().is_empty());
}
