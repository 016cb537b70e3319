//! What the DDL command has done, or dropped, for which an event trigger fires.

use std::ffi::CStr;

use pgrx::pg_sys::AlterTableType as Kind;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{PgList, is_a};

use crate::pg::{encoding, installed, relatives};

/// pg_subscription (pg_subscription.h).
const SUBSCRIPTION: u32 = 6100;

/// What one command did.
#[derive(Default)]
pub struct Commands {
    /// The tables that it created or altered, or whose triggers it did.
    pub tables: Vec<Altered>,
    /// It created or altered a subscription.
    pub about_subscription: bool,
}

impl Commands {
    /// Says whether a table may have become a partition.
    pub fn is_about_partitions(&self) -> bool {
        let is_partition = |table| relatives::facts(table).is_some_and(|facts| facts.is_partition);
        self.tables.iter().any(|one| !one.relatives.is_empty() || is_partition(one.table))
    }
}

/// A table that a command created or altered.
#[derive(Default)]
pub struct Altered {
    pub table: Oid,
    /// Tables that became a relative of it, or were one.
    pub relatives: Vec<Oid>,
    /// Tables that were given a parent, or attached as partitions.
    pub joined: Vec<Link>,
    /// Tables that are no relatives any more.
    pub left: Vec<Link>,
    /// Triggers of it were enabled.
    pub enables_triggers: bool,
}

/// A table, and one that it inherits from or is a partition of.
pub struct Link {
    pub child: Oid,
    pub parent: Oid,
}

/// Returns what the command did that has just ended. To be called by an event trigger ON ddl_command_end.
pub fn commands() -> Commands {
    let mut done = Commands::default();
    for command in collected() {
        // SAFETY: event_trigger.c keeps the commands while event triggers run; `type_` says which part of the
        // union counts (deparse_utility.h).
        let (class, altered) = unsafe {
            let command = &*command;
            match command.type_ {
                pg_sys::CollectedCommandType::SCT_Simple => {
                    let address = command.d.simple.address;
                    let table = address.objectId;
                    (address.classId, Altered { table, ..Altered::default() })
                }
                pg_sys::CollectedCommandType::SCT_AlterTable => {
                    let altered = &command.d.alterTable;
                    (altered.classId, alterations(altered.objectId, altered.subcmds))
                }
                _ => continue,
            }
        };
        if class == pg_sys::TriggerRelationId
            && let Some(table) = installed::table_of(altered.table)
        {
            done.tables.push(Altered { table, ..Altered::default() });
        }
        if class == pg_sys::RelationRelationId {
            done.tables.push(altered);
        }
        done.about_subscription |= class == Oid::from(SUBSCRIPTION);
    }
    done
}

/// Returns the table that is about to be rewritten. To be called by an event trigger ON table_rewrite.
pub fn rewritten() -> Option<Oid> {
    // SAFETY: takes no arguments; an error outside such an event trigger (event_trigger.c).
    unsafe { pgrx::direct_function_call(pg_sys::pg_event_trigger_table_rewrite_oid, &[]) }
}

/// Returns what subcommands of ALTER TABLE did: the tables that they attached, detached, or the like.
///
/// # Safety
/// A list of subcommands as event_trigger.c collects them.
unsafe fn alterations(table: Oid, subcommands: *mut pg_sys::List) -> Altered {
    let mut altered = Altered { table, ..Altered::default() };
    // SAFETY: the caller's promise; each has the parse tree of a subcommand, or none.
    for subcommand in unsafe { PgList::<pg_sys::CollectedATSubcmd>::from_pg(subcommands) }.iter_ptr() {
        // SAFETY: as above.
        let Some(command) = (unsafe { alter_table((*subcommand).parsetree) }) else { continue };
        altered.enables_triggers |= enables_triggers(command);
        // SAFETY: as above. Another event trigger can have given the name to another table since. Then the
        // table has no triggers, or gets them too late, and the witness shows that.
        let named = unsafe {
            named_relative(command).map(|name| {
                let option = pg_sys::RVROption::RVR_MISSING_OK;
                let (no_lock, null) = (pg_sys::NoLock as i32, std::ptr::null_mut());
                pg_sys::RangeVarGetRelidExtended(name, no_lock, option, None, null)
            })
        };
        let Some(relative) = named else { continue };
        altered.relatives.push(relative);
        match command.subtype {
            Kind::AT_DropInherit => altered.left.push(Link { child: table, parent: relative }),
            Kind::AT_DetachPartition | Kind::AT_DetachPartitionFinalize => {
                altered.left.push(Link { child: relative, parent: table });
            }
            Kind::AT_AttachPartition => altered.joined.push(Link { child: relative, parent: table }),
            Kind::AT_AddInherit => altered.joined.push(Link { child: table, parent: relative }),
            _ => {}
        }
    }
    altered
}

/// Returns a subcommand of ALTER TABLE.
///
/// # Safety
/// A parse tree, or null.
unsafe fn alter_table<'a>(tree: *mut pg_sys::Node) -> Option<&'a pg_sys::AlterTableCmd> {
    // SAFETY: the caller's promise; the tag says what it is.
    unsafe {
        let is_one = !tree.is_null() && is_a(tree, pg_sys::NodeTag::T_AlterTableCmd);
        is_one.then(|| &*tree.cast::<pg_sys::AlterTableCmd>())
    }
}

/// Returns the table that a subcommand names which makes it a relative, or none any more (gram.y).
///
/// # Safety
/// What the parser has made.
unsafe fn named_relative(command: &pg_sys::AlterTableCmd) -> Option<*const pg_sys::RangeVar> {
    // SAFETY: what `def` points to follows from the kind of subcommand.
    unsafe {
        match command.subtype {
            Kind::AT_AttachPartition | Kind::AT_DetachPartition | Kind::AT_DetachPartitionFinalize => {
                Some((*command.def.cast::<pg_sys::PartitionCmd>()).name.cast_const())
            }
            Kind::AT_AddInherit | Kind::AT_DropInherit => {
                Some(command.def.cast::<pg_sys::RangeVar>().cast_const())
            }
            _ => None,
        }
    }
}

/// Says whether a subcommand enables triggers.
fn enables_triggers(command: &pg_sys::AlterTableCmd) -> bool {
    matches!(
        command.subtype,
        Kind::AT_EnableTrig
            | Kind::AT_EnableAlwaysTrig
            | Kind::AT_EnableReplicaTrig
            | Kind::AT_EnableTrigAll
            | Kind::AT_EnableTrigUser
    )
}

/// Returns the relations that the command has dropped. To be called by an event trigger ON sql_drop.
pub fn dropped() -> Vec<Oid> {
    dropped_relations(|_, relation| Some(relation))
}

/// Returns the qualified names of some of them, quoted where they must be. Raises an error for one that has
/// no equivalent in UTF-8.
pub fn names_of_dropped(relations: &[Oid]) -> Vec<String> {
    dropped_relations(|row, relation| relations.contains(&relation).then(|| row.text(10)))
}

fn dropped_relations<T>(mut look: impl FnMut(&Row, Oid) -> Option<T>) -> Vec<T> {
    let function = pg_sys::F_PG_EVENT_TRIGGER_DROPPED_OBJECTS.into();
    let relation = |row: &Row| {
        let is_relation = row.oid(1) == pg_sys::RelationRelationId && row.integer(3) == 0;
        if is_relation { look(row, row.oid(2)) } else { None }
    };
    rows_of(function, pg_sys::pg_event_trigger_dropped_objects, relation).into_iter().flatten().collect()
}

/// Returns the commands that pg_event_trigger_ddl_commands() describes, which is the only way to them. The
/// last column is the address of the command, passed by value (event_trigger.c).
fn collected() -> Vec<*const pg_sys::CollectedCommand> {
    let function = pg_sys::F_PG_EVENT_TRIGGER_DDL_COMMANDS.into();
    rows_of(function, pg_sys::pg_event_trigger_ddl_commands, |row| {
        row.value(row.columns()).cast_mut_ptr::<pg_sys::CollectedCommand>().cast_const()
    })
}

/// A row of a function that returns its rows in a tuplestore.
struct Row(*mut pg_sys::TupleTableSlot);

impl Row {
    fn columns(&self) -> i32 {
        // SAFETY: a slot that holds a row.
        unsafe { (*(*self.0).tts_tupleDescriptor).natts }
    }

    /// A column, counted from 1, which is not null.
    fn value(&self, column: i32) -> Datum {
        // SAFETY: as above; the row has so many columns.
        unsafe {
            pg_sys::slot_getsomeattrs(self.0, column);
            *(*self.0).tts_values.add(column as usize - 1)
        }
    }

    fn oid(&self, column: i32) -> Oid {
        Oid::from(self.value(column).value() as u32)
    }

    fn integer(&self, column: i32) -> i32 {
        self.value(column).value() as i32
    }

    fn text(&self, column: i32) -> String {
        // SAFETY: a text that is not null; the copy is a C string (varlena.c).
        let text = unsafe { CStr::from_ptr(pg_sys::text_to_cstring(self.value(column).cast_mut_ptr())) };
        encoding::from_server(text).unwrap_or_else(|_| text.to_string_lossy().into_owned())
    }
}

/// Looks at the rows of a function that only event triggers can call. It is called as the executor would call
/// it (execSRF.c), without SQL: planning takes longer.
fn rows_of<T>(
    function: Oid,
    call: unsafe fn(pg_sys::FunctionCallInfo) -> Datum,
    mut look: impl FnMut(&Row) -> T,
) -> Vec<T> {
    let mut found = Vec::new();
    // SAFETY: a function that returns its rows in a tuplestore, which is ended here; their descriptor stays
    // until the memory of the event trigger is reset.
    unsafe {
        let context = pg_sys::CreateStandaloneExprContext();
        let mut info = pg_sys::FmgrInfo::default();
        pg_sys::fmgr_info(function, &raw mut info);
        let mut result = pg_sys::ReturnSetInfo {
            type_: pg_sys::NodeTag::T_ReturnSetInfo,
            econtext: context,
            allowedModes: pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32,
            ..Default::default()
        };
        let mut arguments = pg_sys::FunctionCallInfoBaseData {
            flinfo: &raw mut info,
            resultinfo: (&raw mut result).cast(),
            ..Default::default()
        };
        call(&raw mut arguments);
        if !result.setResult.is_null() {
            let operations = &raw const pg_sys::TTSOpsMinimalTuple;
            let slot = pg_sys::MakeSingleTupleTableSlot(result.setDesc, operations);
            while pg_sys::tuplestore_gettupleslot(result.setResult, true, false, slot) {
                found.push(look(&Row(slot)));
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::tuplestore_end(result.setResult);
        }
        pg_sys::FreeExprContext(context, true);
    }
    found
}
