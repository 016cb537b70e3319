//! SQL inside the backend: typed parameters in, rows as text out. The caller chooses which snapshot a query
//! sees.
//!
//! pgrx's own SPI client chooses between the active snapshot and a fresh one by itself, and assigns a
//! transaction id. An export must decide both, so this module calls SPI directly.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::str::FromStr;

use pgrx::pg_sys::{self, Datum, Oid};

use crate::pg::encoding;
use crate::pg::error::Error;
use crate::pg::staged::{Receiver, Staged};

/// One row of a result, its values in PostgreSQL's text form.
pub struct Row(Vec<Option<String>>);

impl Row {
    /// Returns the value of a column (counted from 0) that is not null.
    pub fn get<T: FromStr>(&self, column: usize) -> Result<T, Error> {
        self.optional(column)?
            .ok_or_else(|| Error::Internal(format!("column {column} of a catalog query is null")))
    }

    /// Returns the value of a column (counted from 0), `None` for null.
    pub fn optional<T: FromStr>(&self, column: usize) -> Result<Option<T>, Error> {
        let Some(text) = self.0.get(column).and_then(Option::as_deref) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Error::Internal(format!("\"{text}\" in a catalog query is not what it should be")))
    }

    /// Returns the value of a JSON column (counted from 0).
    pub fn json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<T, Error> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| Error::Internal(error.to_string()))
    }

    /// Returns whether a boolean column (counted from 0) is true.
    pub fn flag(&self, column: usize) -> bool {
        self.optional_flag(column) == Some(true)
    }

    /// Returns the value of a boolean column (counted from 0); `None` for null.
    pub fn optional_flag(&self, column: usize) -> Option<bool> {
        self.0.get(column).and_then(Option::as_deref).map(|flag| flag == "t")
    }
}

/// Returns a value as JSON, for a parameter that the query casts to jsonb. [`Row::json`] reads it.
pub fn to_json(value: &(impl serde::Serialize + ?Sized)) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))
}

/// A Rust type that stands for an SQL type.
///
/// A transaction id has none: there is no cast from bigint to xid8. It goes as text, with `::xid8` in the
/// query.
pub trait Value {
    /// The oid of the SQL type.
    const TYPE: Oid;

    /// Returns the value in the current memory context, `None` for null.
    fn datum(&self) -> Result<Option<Datum>, Error>;
}

/// A parameter of a query: a [`Value`] of any type.
pub trait Parameter {
    /// Returns the oid of the SQL type.
    fn type_oid(&self) -> Oid;

    /// Returns the value in the current memory context, `None` for null.
    fn to_datum(&self) -> Result<Option<Datum>, Error>;
}

impl<T: Value> Parameter for T {
    fn type_oid(&self) -> Oid {
        T::TYPE
    }

    fn to_datum(&self) -> Result<Option<Datum>, Error> {
        self.datum()
    }
}

impl<T: Value + ?Sized> Value for &T {
    const TYPE: Oid = T::TYPE;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        T::datum(self)
    }
}

impl<T: Value> Value for Option<T> {
    const TYPE: Oid = T::TYPE;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        self.as_ref().map_or(Ok(None), T::datum)
    }
}

impl Value for bool {
    const TYPE: Oid = pg_sys::BOOLOID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        Ok(Some(Datum::from(*self)))
    }
}

impl Value for i16 {
    const TYPE: Oid = pg_sys::INT2OID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        Ok(Some(Datum::from(*self)))
    }
}

impl Value for i32 {
    const TYPE: Oid = pg_sys::INT4OID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        Ok(Some(Datum::from(*self)))
    }
}

impl Value for i64 {
    const TYPE: Oid = pg_sys::INT8OID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        Ok(Some(Datum::from(*self)))
    }
}

impl Value for u64 {
    const TYPE: Oid = pg_sys::INT8OID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        let number = i64::try_from(*self).map_err(|_| Error::Internal(format!("{self} is no bigint")))?;
        number.datum()
    }
}

impl Value for usize {
    const TYPE: Oid = pg_sys::INT8OID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        (*self as u64).datum()
    }
}

impl Value for Oid {
    const TYPE: Oid = pg_sys::OIDOID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        Ok(Some(Datum::from(self.to_u32())))
    }
}

impl Value for str {
    const TYPE: Oid = pg_sys::TEXTOID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        let text = encoding::to_server(self)?;
        // SAFETY: a C string in the server's encoding; the copy lives in the current memory context.
        Ok(Some(Datum::from(unsafe { pg_sys::cstring_to_text(text.as_ptr()) })))
    }
}

impl Value for String {
    const TYPE: Oid = pg_sys::TEXTOID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        self.as_str().datum()
    }
}

impl Value for [i16] {
    const TYPE: Oid = pg_sys::INT2ARRAYOID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        let mut elements = self.iter().map(|&number| Datum::from(number)).collect::<Vec<_>>();
        // SAFETY: as many elements as said, of the size, kind and alignment that pg_type has for int2.
        let array = unsafe {
            let (count, align) = (elements.len() as i32, b's' as std::ffi::c_char);
            pg_sys::construct_array(elements.as_mut_ptr(), count, pg_sys::INT2OID, 2, true, align)
        };
        Ok(Some(Datum::from(array)))
    }
}

impl Value for [String] {
    const TYPE: Oid = pg_sys::TEXTARRAYOID;

    fn datum(&self) -> Result<Option<Datum>, Error> {
        let elements = self.iter().map(Value::datum).collect::<Result<Option<Vec<_>>, _>>()?;
        let mut elements = elements.unwrap_or_default();
        // SAFETY: as many elements as said, of the size, kind and alignment that pg_type has for text.
        let array = unsafe {
            let (count, align) = (elements.len() as i32, b'i' as std::ffi::c_char);
            pg_sys::construct_array(elements.as_mut_ptr(), count, pg_sys::TEXTOID, -1, false, align)
        };
        Ok(Some(Datum::from(array)))
    }
}

/// Which snapshot a query sees. In all but the active one it sees the effects of the transaction so far, and
/// may write.
#[derive(Clone, Copy)]
enum Sees {
    Active,
    /// The next one of the transaction: a fresh one only at READ COMMITTED.
    Transaction,
    Latest,
}

/// Runs a query in the active snapshot. It sees that instant and nothing later, and assigns no transaction
/// id.
pub fn in_snapshot(sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
    execute(sql, parameters, &[], Sees::Active).map(|(rows, _)| rows)
}

/// Runs a query as [`in_snapshot`] does, by a plan that the backend keeps. To plan some queries takes longer
/// than to run them, and exports run them for each table.
pub fn in_snapshot_by_kept_plan(sql: &'static str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
    let connection = Connection::open();
    let mut arguments = Arguments::of(parameters)?;
    let (count, types, values, nulls) = arguments.as_raw();
    let plan = kept_plan(sql, count, types)?;
    // SAFETY: values and nulls have one entry for each of the parameters, and outlive the call (spi.c).
    let status = unsafe { pg_sys::SPI_execute_plan(plan, values, nulls, true, 0) };
    connection.result(status).map(|(rows, _)| rows)
}

/// Runs a query in the next snapshot of the transaction, with its effects so far, and returns the rows. The
/// snapshot is fresh at READ COMMITTED only.
pub fn in_transaction(sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
    execute(sql, parameters, &[], Sees::Transaction).map(|(rows, _)| rows)
}

/// Runs a query that names staged rows as tables, as [`in_transaction`] does.
pub fn in_transaction_with(sql: &str, relations: &[&Staged]) -> Result<Vec<Row>, Error> {
    execute(sql, &[], relations, Sees::Transaction).map(|(rows, _)| rows)
}

/// Runs a query in a snapshot of this very moment, with the effects of the transaction so far, and returns
/// its rows. At REPEATABLE READ [`in_transaction`] would not see what has been committed since the first
/// snapshot, and would fail on a row that has been updated since.
pub fn latest(sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Error> {
    execute(sql, parameters, &[], Sees::Latest).map(|(rows, _)| rows)
}

/// Runs a data-modifying query that names staged rows as tables, and returns how many rows it touched.
pub fn modify(sql: &str, relations: &[&Staged]) -> Result<u64, Error> {
    execute(sql, &[], relations, Sees::Transaction).map(|(_, processed)| processed)
}

/// Runs a query that names staged rows as tables, and stages the rows that it returns in sets of these names.
/// The last column of the query, an integer, is the number of the set, counted from 0.
pub fn stage<const N: usize>(
    sql: &str,
    relations: &[&Staged],
    names: [&'static CStr; N],
) -> Result<[Staged; N], Error> {
    let sql = encoding::to_server(sql)?;
    let mut receiver = Receiver::of(&names);
    let connection = Connection::open();
    for relation in relations {
        relation.register();
    }
    let options = pg_sys::SPIExecuteOptions { dest: receiver.as_ptr(), ..Default::default() };
    // SAFETY: a C string; the receiver outlives the call (spi.c).
    let status = unsafe { pg_sys::SPI_execute_extended(sql.as_ptr(), &raw const options) };
    drop(connection);
    match receiver.finish().try_into() {
        Ok(sets) if status >= 0 => Ok(sets),
        _ => Err(Error::Internal(format!("SPI_execute_extended returned {status}"))),
    }
}

fn execute(
    sql: &str,
    parameters: &[&dyn Parameter],
    relations: &[&Staged],
    sees: Sees,
) -> Result<(Vec<Row>, u64), Error> {
    let sql = encoding::to_server(sql)?;
    let connection = Connection::open();
    for relation in relations {
        relation.register();
    }
    let mut arguments = Arguments::of(parameters)?;
    let (count, types, values, nulls) = arguments.as_raw();
    let is_read_only = matches!(sees, Sees::Active);
    // SAFETY: types, values and nulls have one entry for each of the parameters, and outlive the call. SPI
    // copies the snapshot, and the connection frees the plan (spi.c).
    let status = unsafe {
        match sees {
            Sees::Active | Sees::Transaction => {
                pg_sys::SPI_execute_with_args(sql.as_ptr(), count, types, values, nulls, is_read_only, 0)
            }
            Sees::Latest => {
                let plan = pg_sys::SPI_prepare(sql.as_ptr(), count, types);
                let (snapshot, crosscheck) = (pg_sys::GetLatestSnapshot(), std::ptr::null_mut());
                pg_sys::SPI_execute_snapshot(plan, values, nulls, snapshot, crosscheck, false, true, 0)
            }
        }
    };
    connection.result(status)
}

/// The parameters of a query as SPI takes them, in the memory context of the connection, which frees them.
struct Arguments {
    types: Vec<Oid>,
    values: Vec<Datum>,
    nulls: Vec<u8>,
}

impl Arguments {
    fn of(parameters: &[&dyn Parameter]) -> Result<Arguments, Error> {
        let values = parameters.iter().map(|value| value.to_datum()).collect::<Result<Vec<_>, _>>()?;
        Ok(Arguments {
            types: parameters.iter().map(|value| value.type_oid()).collect(),
            nulls: values.iter().map(|value| if value.is_some() { b' ' } else { b'n' }).collect(),
            values: values.into_iter().map(|value| value.unwrap_or(Datum::null())).collect(),
        })
    }

    fn as_raw(&mut self) -> (i32, *mut Oid, *mut Datum, *const c_char) {
        let (types, values) = (self.types.as_mut_ptr(), self.values.as_mut_ptr());
        (self.types.len() as i32, types, values, self.nulls.as_ptr().cast())
    }
}

thread_local! {
    /// The plans that this backend keeps, by their SQL.
    static KEPT: RefCell<HashMap<&'static str, pg_sys::SPIPlanPtr>> = RefCell::default();
}

/// Returns the plan of a query, which is made once in a backend, for any values of the parameters.
fn kept_plan(sql: &'static str, count: i32, types: *mut Oid) -> Result<pg_sys::SPIPlanPtr, Error> {
    if let Some(plan) = KEPT.with_borrow(|kept| kept.get(sql).copied()) {
        return Ok(plan);
    }
    let text = encoding::to_server(sql)?;
    // SAFETY: a C string, and the types of its parameters; within a connection. A plan that is kept lives as
    // long as the backend (spi.c, SPI_keepplan).
    let plan = unsafe {
        let plan =
            pg_sys::SPI_prepare_cursor(text.as_ptr(), count, types, pg_sys::CURSOR_OPT_GENERIC_PLAN as i32);
        if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
            let status = pg_sys::SPI_result;
            return Err(Error::Internal(format!("SPI returned {status}")));
        }
        plan
    };
    KEPT.with_borrow_mut(|kept| kept.insert(sql, plan));
    Ok(plan)
}

fn fetch(table: *mut pg_sys::SPITupleTable, count: usize) -> Result<Vec<Row>, Error> {
    // SAFETY: SPI_tuptable of a query that returned `count` rows; both stay until SPI_finish.
    let (descriptor, tuples) =
        unsafe { ((*table).tupdesc, std::slice::from_raw_parts((*table).vals, count)) };
    // SAFETY: as above.
    let columns = unsafe { (*descriptor).natts };
    tuples
        .iter()
        .map(|&tuple| {
            (1..=columns)
                .map(|column| {
                    // SAFETY: column is within the descriptor; null or a palloc'd C string (spi.c,
                    // SPI_getvalue).
                    let value = unsafe { pg_sys::SPI_getvalue(tuple, descriptor, column) };
                    // SAFETY: not null, so a C string that lives until SPI_finish.
                    (!value.is_null())
                        .then(|| encoding::from_server(unsafe { CStr::from_ptr(value) }))
                        .transpose()
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Row)
        })
        .collect()
}

/// An open SPI connection.
struct Connection;

impl Connection {
    fn open() -> Connection {
        // SAFETY: may be nested; only fails with an error (spi.c, SPI_connect).
        unsafe { pg_sys::SPI_connect() };
        Connection
    }

    /// Returns the rows of the query that has just been executed, and how many it touched.
    fn result(self, status: i32) -> Result<(Vec<Row>, u64), Error> {
        if status < 0 {
            return Err(Error::Internal(format!("SPI returned {status}")));
        }
        // SAFETY: SPI sets both for the query just executed, before it returns.
        let (processed, table) = unsafe { (pg_sys::SPI_processed, pg_sys::SPI_tuptable) };
        let rows = if table.is_null() { Vec::new() } else { fetch(table, processed as usize)? };
        Ok((rows, processed))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the innermost connection is this one; after an error AtEOSubXact_SPI closes it instead.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// Quotes a name with PostgreSQL's own rules.
pub fn quote_identifier(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}

/// Quotes a qualified name with PostgreSQL's own rules.
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}
