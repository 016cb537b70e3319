//! The DDL of the soak. A kill may undo any of it, or leave it halfway. So each step begins with what
//! PostgreSQL's catalog says.
//!
//! Most DDL has its table sent in full, and that repairs what was missed before. So in many rounds there is
//! little of it, or only one kind.

use std::time::Duration;

use postgres::{Client, Error};

use super::sessions::{Allowed, Session, line, run};
use crate::cluster::database::{Database, query};
use crate::cluster::random::Random;

const TO_DDL: &[Allowed] = &[
    // DETACH CONCURRENTLY has begun, and was not finished.
    ("55000", "with an incomplete detach"),
    // A column was added or dropped while the partition was not attached.
    ("42804", "child table is missing column \"extra\""),
    ("42804", "contains column \"extra\" not found in parent"),
];

/// How many milliseconds a session waits after each step, in one round.
const PAUSES: [u64; 3] = [50, 300, 1500];

/// Enables the capture triggers that are disabled.
pub const ENABLE_TRIGGERS: &str = "
    DO $$ DECLARE t record; BEGIN
        FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
                  WHERE tgfoid = 'table_export.capture()'::regprocedure AND tgenabled <> 'A' LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.relation, t.tgname);
        END LOOP;
    END $$";

/// PostgreSQL allows 1600 columns, and counts dropped ones.
const LAST_COLUMN: i32 = 1500;

/// A name, and the calls that it takes.
type Step = (&'static str, Vec<String>);

/// Does a step again and again. There may be nothing to do.
fn session(
    source: &Database,
    random: &mut Random,
    mut step: impl FnMut(&mut Client) -> Result<Option<Step>, Error> + Send + 'static,
) -> Session {
    let pause = Duration::from_millis(PAUSES[random.below(3) as usize]);
    Session::new(source, TO_DDL, pause, move |client, survived| {
        let Some((name, calls)) = step(client)? else { return Ok(()) };
        run(client, &calls)?;
        survived.count("DDL", 1);
        survived.count(&format!("DDL: {name}"), 1);
        Ok(())
    })
}

/// A transaction that does something, and shows by its line whether it was committed.
fn transaction(statements: &str, line: &str) -> Vec<String> {
    vec![format!("BEGIN; {statements}; {line}; COMMIT")]
}

/// What partitions do in one round.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Come,
    Go,
    ComeAndGo,
}

/// Three partitions of `parted` that come and go: `slot_0` from 1000, `slot_1` from 2000, `slot_2` from 3000.
pub fn partitions(source: &Database, mut random: Random, session_number: i32, mut number: i32) -> Session {
    let direction = [Direction::Come, Direction::Go, Direction::ComeAndGo][random.below(3) as usize];
    session(source, &mut random.fork(), move |client| {
        number += 1;
        let slots = query(
            client,
            "SELECT CASE WHEN c.oid IS NULL THEN 'absent' WHEN i.inhdetachpending THEN 'pending'
                         WHEN i.inhrelid IS NOT NULL THEN 'attached' ELSE 'alone' END
               FROM generate_series(0, 2) AS s (number)
               LEFT JOIN pg_class AS c ON c.relname = 'slot_' || s.number
               LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
              ORDER BY s.number",
        )?;
        let slots = slots.lines().collect::<Vec<_>>();
        // While one is pending, PostgreSQL detaches no other concurrently.
        let pending = slots.iter().position(|state| *state == "pending");
        let slot = pending.unwrap_or_else(|| random.below(3) as usize);
        let may_be_done = match slots[slot] {
            "absent" | "alone" => direction != Direction::Go,
            _ => direction != Direction::Come,
        };
        let step = || partition_step(slots[slot], slot, &mut random, &line(session_number, number));
        Ok(may_be_done.then(step))
    })
}

fn partition_step(state: &str, slot: usize, random: &mut Random, line: &str) -> Step {
    let (from, to) = (1000 + 1000 * slot, 2000 + 1000 * slot);
    let bounds = format!("FOR VALUES FROM ({from}) TO ({to})");
    let rows = format!(
        "INSERT INTO slot_{slot} SELECT i, 'attached' FROM generate_series({from}, {to} - 1, 20) AS i"
    );
    let attach = format!("ALTER TABLE parted ATTACH PARTITION slot_{slot} {bounds}");
    let detach = format!("ALTER TABLE parted DETACH PARTITION slot_{slot}");
    let write = format!("UPDATE slot_{slot} SET note = 'written by name'");
    match (state, random.below(4)) {
        ("absent", 0) => {
            let create = format!("CREATE TABLE slot_{slot} PARTITION OF parted {bounds}; {rows}");
            ("create partition", transaction(&create, line))
        }
        ("absent", _) => {
            let create = format!("CREATE TABLE slot_{slot} (LIKE parted INCLUDING ALL); {rows}; {attach}");
            ("attach partition", transaction(&create, line))
        }
        ("attached", 0) => ("detach partition", transaction(&format!("{detach}; {write}"), line)),
        ("attached", 1) => ("drop partition", transaction(&format!("DROP TABLE slot_{slot}"), line)),
        ("attached", 2) => ("write to partition", transaction(&write, line)),
        ("attached", _) => {
            // The first of its two transactions is not for the kill to undo.
            let calls = [
                "SET synchronous_commit = on",
                &format!("{detach} CONCURRENTLY"),
                "RESET synchronous_commit",
            ];
            ("detach concurrently", calls.map(str::to_owned).into())
        }
        ("pending", 0) => ("drop pending partition", vec![format!("DROP TABLE slot_{slot}")]),
        ("pending", 1) => ("write to pending partition", transaction(&write, line)),
        ("pending", _) => ("finalize", vec![format!("{detach} FINALIZE")]),
        ("alone", 0) => ("drop detached partition", vec![format!("DROP TABLE slot_{slot}")]),
        (_, _) => ("attach again", transaction(&format!("{write}; {attach}"), line)),
    }
}

/// Columns that come and go, rewrites, and triggers that are disabled for a while: of one table in each round.
pub fn alterations(source: &Database, mut random: Random, session_number: i32, mut number: i32) -> Session {
    let table = if random.below(2) == 0 { "items" } else { "parted" };
    let only = (random.below(2) == 0).then(|| random.below(4));
    session(source, &mut random.fork(), move |client| {
        number += 1;
        query(client, ENABLE_TRIGGERS)?;
        let line = line(session_number, number);
        Ok(Some(match only.unwrap_or_else(|| random.below(4)) {
            0 => column_step(client, table, &mut random, &line, number)?,
            1 => ("vacuum full", vec![format!("VACUUM FULL {table}")]),
            2 => {
                let change = match table {
                    "items" => "amount TYPE numeric(12,2) USING -amount",
                    _ => "note TYPE text USING reverse(note)",
                };
                ("rewrite", transaction(&format!("ALTER TABLE {table} ALTER COLUMN {change}"), &line))
            }
            _ => trigger_step(table, &mut random, &line, number),
        }))
    })
}

/// After the last column there is nothing to add.
fn column_step(
    client: &mut Client,
    table: &str,
    random: &mut Random,
    line: &str,
    number: i32,
) -> Result<Step, Error> {
    let columns = query(
        client,
        &format!(
            "SELECT count(*) FILTER (WHERE attname = 'extra'), max(attnum) > {LAST_COLUMN} FROM pg_attribute
              WHERE attrelid = '{table}'::regclass"
        ),
    )?;
    let (add, drop) = (format!("ADD COLUMN extra int DEFAULT {number}"), "DROP COLUMN extra");
    let (name, change) = match (&*columns, random.below(2)) {
        ("0|f", _) => ("add column", add),
        ("1|f", 0) => ("replace column", format!("{drop}, {add}")),
        ("1|f" | "1|t", _) => ("drop column", drop.to_owned()),
        _ => ("no more columns", "ALTER COLUMN note DROP NOT NULL".to_owned()),
    };
    Ok((name, transaction(&format!("ALTER TABLE {table} {change}"), line)))
}

/// Writes what no trigger sees.
fn trigger_step(table: &str, random: &mut Random, line: &str, number: i32) -> Step {
    let table = if table == "items" { "items" } else { "parted_low" };
    let disable = format!("ALTER TABLE {table} DISABLE TRIGGER USER");
    let write = format!("UPDATE {table} SET note = 'hidden {number}' WHERE id % 5 = {number} % 5; {line}");
    if random.below(2) == 0 {
        ("disable triggers", vec![format!("BEGIN; {disable}; {write}; {ENABLE_TRIGGERS}; COMMIT")])
    } else {
        // The next step enables them.
        ("disable triggers for a while", vec![disable, format!("BEGIN; {write}; COMMIT")])
    }
}
