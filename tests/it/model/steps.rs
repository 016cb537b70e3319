//! What the sessions of a schedule do, and how likely that is.

use proptest::prelude::*;

use super::NAMES;
use super::change::{Change, Ddl};
use super::state::{TARGETS, WRITERS};

const KEYS: i32 = 24;

/// What a session does. Writers, tables and targets are known by their numbers.
#[derive(Clone, Debug)]
pub enum Step {
    Begin(usize, Isolation),
    Change(usize, usize, Change),
    Savepoint(usize),
    RollbackToSavepoint(usize),
    ReleaseSavepoint(usize),
    End(usize, End),
    EndPrepared(usize, End),
    DetachConcurrently,
    Finalize,
    Export(usize, Isolation, Option<End>),
    EndExport(usize, End),
    Import(usize, End),
    /// Compacts the latest full batch and all after it, or so many of the latest.
    Compact(usize, Option<u64>),
    Expire(usize),
    /// The destination begins anew, with rows of its own.
    Adopt(usize),
    Reset(usize, Option<usize>),
    TrackAgain(usize),
    Clone,
    Crash,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Commit,
    Rollback,
    Prepare,
}

#[derive(Clone, Copy, Debug)]
pub enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    pub fn sql(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::RepeatableRead => "REPEATABLE READ",
            Isolation::Serializable => "SERIALIZABLE",
        }
    }
}

fn changes() -> impl Strategy<Value = Change> {
    let keys = (0..KEYS, 1..5).prop_map(|(from, count)| from..=from + count - 1);
    let v = 0..10;
    prop_oneof![
        5 => (keys.clone(), v.clone()).prop_map(|(keys, v)| Change::Upsert(keys, v)),
        2 => (keys.clone(), v.clone()).prop_map(|(keys, v)| Change::InsertMissing(keys, v)),
        4 => (keys.clone(), v).prop_map(|(keys, v)| Change::Update(keys, v)),
        4 => keys.clone().prop_map(Change::Delete),
        3 => (keys.clone(), 4..KEYS, any::<bool>()).prop_map(|(keys, by, up)| Change::Shift(keys, if up { by } else { -by })),
        1 => Just(Change::Truncate),
        1 => (0..KEYS).prop_map(Change::Subtransactions),
        1 => keys.prop_map(Change::Fail),
    ]
}

fn ddl() -> impl Strategy<Value = Ddl> {
    let rows = ((0..KEYS, 1..5).prop_map(|(from, count)| from..=from + count - 1), 10..20);
    prop_oneof![
        2 => Just(Ddl::Rewrite),
        1 => Just(Ddl::RewriteUnseen),
        1 => (20..30).prop_map(Ddl::Renew),
        1 => Just(Ddl::AddColumn),
        1 => Just(Ddl::DropColumn),
        1 => rows.clone().prop_map(|(keys, v)| Ddl::RenameColumn(keys, v)),
        1 => rows.clone().prop_map(|(keys, v)| Ddl::RenameTable(keys, v)),
        1 => rows.clone().prop_map(|(keys, v)| Ddl::DisableTriggers(keys, v)),
        1 => rows.clone().prop_map(|(keys, v)| Ddl::DisableTriggersOfPartition(keys, v)),
        1 => rows.clone().prop_map(|(keys, v)| Ddl::ReplaceTrigger(keys, v)),
        1 => rows.prop_map(|(keys, v)| Ddl::RenameTrigger(keys, v)),
        1 => Just(Ddl::Disarm),
        2 => Just(Ddl::Arm),
        2 => Just(Ddl::DropTop),
        2 => Just(Ddl::DetachTop),
        5 => (0..5).prop_map(Ddl::AttachTop),
    ]
}

pub fn steps() -> impl Strategy<Value = Step> {
    let writer = 0..WRITERS;
    let table = 0..NAMES.len();
    let target = 0..TARGETS.len();
    let end = prop_oneof![3 => Just(End::Commit), 1 => Just(End::Rollback)];
    let isolation = prop_oneof![
        Just(Isolation::ReadCommitted),
        Just(Isolation::RepeatableRead),
        Just(Isolation::Serializable)
    ];
    let statements = prop_oneof![
        24 => (writer.clone(), table.clone(), changes()).prop_map(|(writer, table, change)| Step::Change(writer, table, change)),
        8 => (writer.clone(), table.clone(), ddl()).prop_map(|(writer, table, ddl)| Step::Change(writer, table, Change::Alter(ddl))),
        1 => Just(Step::DetachConcurrently),
        1 => Just(Step::Finalize),
    ];
    let of_writers = prop_oneof![
        8 => (writer.clone(), isolation.clone()).prop_map(|(writer, isolation)| Step::Begin(writer, isolation)),
        30 => statements,
        3 => writer.clone().prop_map(Step::Savepoint),
        2 => writer.clone().prop_map(Step::RollbackToSavepoint),
        1 => writer.clone().prop_map(Step::ReleaseSavepoint),
        8 => (writer.clone(), end.clone()).prop_map(|(writer, end)| Step::End(writer, end)),
        2 => writer.prop_map(|writer| Step::End(writer, End::Prepare)),
        3 => (0..4usize, end.clone()).prop_map(|(nth, end)| Step::EndPrepared(nth, end)),
    ];
    let of_targets = prop_oneof![
        28 => (target.clone(), isolation, proptest::option::weighted(0.7, end.clone()))
            .prop_map(|(target, isolation, end)| match isolation {
                Isolation::Serializable => Step::Export(target, isolation, end.or(Some(End::Commit))),
                _ => Step::Export(target, isolation, end),
            }),
        8 => (target.clone(), end.clone()).prop_map(|(target, end)| Step::EndExport(target, end)),
        20 => (target.clone(), end).prop_map(|(target, end)| Step::Import(target, end)),
        2 => (target.clone(), proptest::option::of(1..5u64)).prop_map(|(target, run)| Step::Compact(target, run)),
        1 => target.clone().prop_map(Step::Expire),
        1 => proptest::option::weighted(0.2, target.clone())
            .prop_map(|target| target.map_or(Step::Finalize, Step::Adopt)),
        2 => (target, proptest::option::of(table.clone())).prop_map(|(target, table)| Step::Reset(target, table)),
        2 => table.prop_map(Step::TrackAgain),
    ];
    prop_oneof![57 => of_writers, 32 => of_targets]
}
