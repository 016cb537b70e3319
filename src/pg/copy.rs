//! PostgreSQL's own COPY, with a Rust `Write` or `Read` at its other end.
//!
//! COPY TO can call us back for each row only from version 16 on, so it is given a pipe to write to, and a
//! thread that knows nothing of PostgreSQL carries what arrives there into the sink: compression and hashing
//! run on another core. COPY FROM asks for bytes through a callback that has no argument of ours, so its
//! source waits in a stack.

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pgrx::pg_guard;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportable};

use crate::pg::convert::{Conversion, Converter, Misfit};
use crate::pg::error::{Error, StreamError};
use crate::pg::staged::{Columns, Staged, descriptor_to_read};
use crate::pg::table::Table;
use crate::pg::{encoding, interrupts, settings, transaction};

/// What the pipe and the thread's buffer hold: the largest that an unprivileged process may ask for by
/// default.
const PIPE_BYTES: usize = 1 << 20;

/// How long the thread lets the pipe fill: each write of 4 kB would wake one that waits in it.
const PAUSE: Duration = Duration::from_micros(300);

/// What passes before the thread pauses: so a small COPY does not wait.
const BYTES_BEFORE_PAUSES: usize = 1 << 16;

/// Runs `COPY (query) TO` in the active snapshot and returns the number of rows, and the sink to be finished.
///
/// `format` is `text`, `csv` or `binary`; the encoding is always UTF-8. The current user must have the right
/// to read what the query reads.
pub fn copy_to<W: Write + Send + 'static, E: StreamError>(
    query: &str,
    format: &str,
    sink: W,
) -> Result<(u64, W), E> {
    let query = encoding::to_server(query)?;
    let _encoding = (format == "binary").then(settings::pin_client_encoding);
    let format = encoding::to_server(format)?;
    let mut pump = Pump::start::<E>(sink)?;
    let path = encoding::to_server(&pump.path())?;
    let copied = pgrx::PgTryBuilder::new(|| Ok(copy_query_to_file(&query, &format, &path)))
        .catch_others(Err)
        .execute();
    match copied {
        Ok(rows) => Ok((rows, pump.join()?)),
        // COPY found the pipe closed; the cause is what made the pump close it.
        Err(error) if pump.has_failed() && !is_interrupt(&error) => {
            // If it was an interrupt that the pump has noticed first, PostgreSQL says which.
            pgrx::check_for_interrupts!();
            Ok((0, pump.join()?))
        }
        Err(error) => error.rethrow(),
    }
}

fn is_interrupt(error: &CaughtError) -> bool {
    let (CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)) = error else { return false };
    transaction::ends_statement(report.sql_error_code())
}

fn copy_query_to_file(query: &CStr, format: &CStr, path: &CStr) -> u64 {
    // SAFETY: as DoCopy does it (copy.c); everything is allocated in the current memory context. The caller
    // checks rights by being the current user when the executor starts.
    unsafe {
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_sourcetext = query.as_ptr();
        let statements = pgrx::PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(query.as_ptr()));
        let statement = statements.get_ptr(0).unwrap_or(std::ptr::null_mut());
        let copy = pg_sys::BeginCopyTo(
            state,
            std::ptr::null_mut(),
            statement,
            pg_sys::Oid::INVALID,
            path.as_ptr(),
            false,
            #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
            None,
            std::ptr::null_mut(),
            options(format),
        );
        let rows = pg_sys::DoCopyTo(copy);
        pg_sys::EndCopyTo(copy);
        pg_sys::free_parsestate(state);
        rows
    }
}

/// A pipe, and the thread between it and the sink. The thread ends with the sink when the pipe is closed at
/// its other end.
struct Pump<W> {
    pipe: Option<OwnedFd>,
    thread: Option<JoinHandle<io::Result<W>>>,
    failed: Arc<AtomicBool>,
    abandoned: Arc<AtomicBool>,
}

impl<W: Write + Send + 'static> Pump<W> {
    fn start<E: StreamError>(sink: W) -> Result<Pump<W>, E> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| Error::Pipe(errno.into()))?;
        // The default of 64 KiB works as well, only slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES);
        let (failed, abandoned) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (failure, end) = (Arc::clone(&failed), Arc::clone(&abandoned));
        let carry = move || {
            interrupts::work_until(Arc::clone(&end));
            let reader = std::fs::File::from(reader);
            // The flag is up before the pipe is closed: a reader that finds the pipe closed can rely on it.
            pump(&reader, sink, &end).inspect_err(|_| failure.store(true, Ordering::SeqCst))
        };
        let blocked = signals::block()?;
        let thread = std::thread::Builder::new().name("copy pump".into()).spawn(carry)?;
        drop(blocked);
        Ok(Pump { pipe: Some(writer), thread: Some(thread), failed, abandoned })
    }
}

impl<W> Pump<W> {
    /// The path under which COPY can write to the pipe.
    fn path(&self) -> String {
        format!("/dev/fd/{}", self.pipe.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    fn join(&mut self) -> io::Result<W> {
        self.pipe = None;
        let thread =
            self.thread.take().ok_or_else(|| io::Error::other("the thread has been joined before"))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that writes the file has panicked")))
    }
}

/// No thread outlives the COPY that it works for.
impl<W> Drop for Pump<W> {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::SeqCst);
        if let (Some(pipe), Some(_)) = (&self.pipe, &self.thread) {
            // It may be reading, and a COPY that has failed keeps its own end of the pipe open until the
            // transaction ends.
            let _ = rustix::io::write(pipe, &[0]);
            let _ = self.join();
        }
    }
}

fn pump<W: Write>(mut reader: &std::fs::File, mut sink: W, abandoned: &AtomicBool) -> io::Result<W> {
    let mut buffer = vec![0; PIPE_BYTES / 4];
    let (mut passed, mut is_full) = (0, false);
    loop {
        if passed > BYTES_BEFORE_PAUSES && !is_full {
            std::thread::sleep(PAUSE);
        }
        match reader.read(&mut buffer)? {
            _ if abandoned.load(Ordering::SeqCst) => return Err(io::ErrorKind::BrokenPipe.into()),
            0 => return Ok(sink),
            length => {
                sink.write_all(&buffer[..length])?;
                passed += length;
                is_full = length == buffer.len();
            }
        }
    }
}

/// Runs `COPY table (columns) FROM` and returns the number of rows that were appended.
///
/// No rights are checked here. Triggers, defaults and constraints work as in any COPY.
pub fn copy_from<E: StreamError>(
    table: &Table,
    columns: &[&str],
    format: &str,
    source: impl Read + 'static,
) -> Result<u64, E> {
    let source = CopyInput::push::<E>(source);
    let _encoding = (format == "binary").then(settings::pin_client_encoding);
    // SAFETY: as copy_table does it (tablesync.c): an open and locked table, our callback, lists of nodes.
    let rows = unsafe {
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let (relation, lock) = (table.relation(), pg_sys::RowExclusiveLock as i32);
        pg_sys::addRangeTableEntryForRelation(state, relation, lock, std::ptr::null_mut(), false, false);
        let copy = begin_copy_from(state, relation, columns, format)?;
        let rows = pg_sys::CopyFrom(copy);
        pg_sys::EndCopyFrom(copy);
        pg_sys::free_parsestate(state);
        rows
    };
    source.finish()?;
    Ok(rows)
}

/// Reads rows as `COPY table (columns) FROM` would, but into staged rows of the table's columns. Returns the
/// first value that a conversion does not keep as it is: then the transaction must fail.
pub fn stage_from<E: StreamError>(
    table: &Table,
    rows: &mut Staged,
    format: &str,
    conversions: &[Conversion],
    source: impl Read + 'static,
) -> Result<Option<Misfit>, E> {
    let columns = rows.descriptor();
    // SAFETY: the values are those of a row of these columns.
    let push = |values: &mut [_], nulls: &mut [_]| unsafe {
        rows.push(values, nulls);
        Ok(())
    };
    // SAFETY: the columns live as long as the rows.
    unsafe { each_row(table, columns, format, conversions, source, push) }
}

/// Reads rows as [`stage_from`] does, and calls a function with the text of the values of each.
pub fn texts_from<E: StreamError>(
    table: &Table,
    attnums: &[i16],
    format: &str,
    conversions: &[Conversion],
    source: impl Read + 'static,
    mut each: impl FnMut(&[Option<String>]) -> Result<(), E>,
) -> Result<Option<Misfit>, E> {
    let columns = Columns::of(table, attnums);
    // SAFETY: the columns live until the end of the function.
    let mut texts = unsafe { Converter::of(columns.descriptor(), &[]) };
    let write = |values: &mut [_], nulls: &mut [_]| {
        // SAFETY: the values are those of a row of these columns.
        each(&unsafe { texts.row(0, values, nulls)? })
    };
    // SAFETY: as above.
    unsafe { each_row(table, columns.descriptor(), format, conversions, source, write) }
}

/// Reads rows, converts them, and calls a function with the values of each.
///
/// # Safety
/// `columns` must be a descriptor, and live.
unsafe fn each_row<E: StreamError>(
    table: &Table,
    columns: pg_sys::TupleDesc,
    format: &str,
    conversions: &[Conversion],
    source: impl Read + 'static,
    mut take: impl FnMut(&mut [pg_sys::Datum], &mut [bool]) -> Result<(), E>,
) -> Result<Option<Misfit>, E> {
    let source = CopyInput::push::<E>(source);
    let _encoding = (format == "binary").then(settings::pin_client_encoding);
    // SAFETY: of a relation that it does not write to, COPY reads the name, the kind and the columns, which
    // are those given here: else it would compute a default, or draw from a sequence, for each row and column
    // that is not in the file (copyfrom.c, BeginCopyFrom). The copy of the struct outlives the COPY.
    let mut relation = unsafe { *table.relation() };
    // SAFETY: the caller's promise.
    relation.rd_att = unsafe { descriptor_to_read(columns, conversions) };
    // SAFETY: as above; the state lives in a memory context of COPY's own.
    let copy = unsafe { begin_copy_from(std::ptr::null_mut(), &raw mut relation, &[], format)? };
    // SAFETY: the caller's promise.
    let count = unsafe { (*columns).natts as usize };
    // SAFETY: the caller's promise.
    let mut converter = (!conversions.is_empty()).then(|| unsafe { Converter::of(columns, conversions) });
    let mut misfit = None;
    let (mut values, mut nulls) = (vec![pg_sys::Datum::null(); count], vec![false; count]);
    let mut row_context = pgrx::PgMemoryContexts::new("pg_table_export row");
    // SAFETY: there is room for a value and a null flag of each column. What a row allocates lives until the
    // next one, and the function keeps copies only (copyfromparse.c, NextCopyFrom).
    while unsafe {
        row_context.switch_to(|_| {
            let (values_ptr, nulls_ptr) = (values.as_mut_ptr(), nulls.as_mut_ptr());
            if !pg_sys::NextCopyFrom(copy, std::ptr::null_mut(), values_ptr, nulls_ptr) {
                return Ok::<_, E>(false);
            }
            if let Some(converter) = &mut converter {
                misfit = converter.convert(&mut values, &mut nulls)?;
            }
            if misfit.is_none() {
                take(&mut values, &mut nulls)?;
            }
            Ok(misfit.is_none())
        })?
    } {
        pgrx::check_for_interrupts!();
        // SAFETY: nothing points into the context any more.
        unsafe { row_context.reset() };
    }
    // SAFETY: open, ended once.
    unsafe { pg_sys::EndCopyFrom(copy) };
    if misfit.is_none() {
        source.finish()?;
    }
    Ok(misfit)
}

/// Without `columns` it is all columns of the relation.
///
/// # Safety
/// The relation is open; `state` is null or a parse state that has it in its range table.
unsafe fn begin_copy_from(
    state: *mut pg_sys::ParseState,
    relation: pg_sys::Relation,
    columns: &[&str],
    format: &str,
) -> Result<pg_sys::CopyFromState, Error> {
    let format = encoding::to_server(format)?;
    let names = columns.iter().map(|name| encoding::to_server(name)).collect::<Result<Vec<_>, _>>()?;
    let mut list = pgrx::PgList::<pg_sys::Node>::new();
    for name in &names {
        list.push(string_node(name));
    }
    // SAFETY: the caller's promise; the lists are made of palloc'd nodes.
    Ok(unsafe {
        pg_sys::BeginCopyFrom(
            state,
            relation,
            std::ptr::null_mut(),
            std::ptr::null(),
            false,
            Some(supply),
            list.into_pg(),
            options(&format),
        )
    })
}

fn options(format: &CStr) -> *mut pg_sys::List {
    let mut options = pgrx::PgList::<pg_sys::DefElem>::new();
    for (name, value) in [(c"format", format), (c"encoding", c"UTF8")] {
        // SAFETY: the name is static; the node holds a copy of the value.
        options.push(unsafe { pg_sys::makeDefElem(name.as_ptr().cast_mut(), string_node(value), -1) });
    }
    options.into_pg()
}

fn string_node(text: &CStr) -> *mut pg_sys::Node {
    // SAFETY: the node holds a palloc'd copy.
    unsafe { pg_sys::makeString(pg_sys::pstrdup(text.as_ptr())).cast() }
}

thread_local! {
    /// The sources of the COPY commands that run, the innermost last: a trigger may import as well.
    static SOURCES: RefCell<Vec<CopySource>> = const { RefCell::new(Vec::new()) };
}

/// Where a COPY reads from, and what PostgreSQL raises if that fails.
struct CopySource {
    bytes: Box<dyn Read>,
    report: fn(io::Error) -> ErrorReport,
}

/// The top of the stack of sources, for as long as a COPY reads it.
struct CopyInput(usize);

impl CopyInput {
    fn push<E: StreamError>(source: impl Read + 'static) -> CopyInput {
        let report = |reason| E::from(reason).into();
        SOURCES.with_borrow_mut(|sources| {
            sources.push(CopySource { bytes: Box::new(source), report });
            CopyInput(sources.len() - 1)
        })
    }
}

impl CopyInput {
    /// Reads what COPY has left, which is nothing but the end of the stream: there, and only there, a source
    /// tells whether all of it was what it should be.
    fn finish(self) -> io::Result<()> {
        let source = SOURCES.with_borrow_mut(|sources| sources.pop());
        source.map_or(Ok(0), |mut source| io::copy(&mut source.bytes, &mut io::sink()))?;
        Ok(())
    }
}

impl Drop for CopyInput {
    fn drop(&mut self) {
        // Also while an error unwinds: this is plain Rust.
        SOURCES.with_borrow_mut(|sources| sources.truncate(self.0));
    }
}

/// Gives COPY FROM its next bytes: at least one, at most `most`, 0 at the end.
#[pg_guard]
unsafe extern "C-unwind" fn supply(buffer: *mut c_void, _least: c_int, most: c_int) -> c_int {
    // SAFETY: COPY owns a buffer of `most` bytes (copyfromparse.c, CopyGetData).
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), most as usize) };
    let read = SOURCES.with_borrow_mut(|sources| match sources.last_mut() {
        Some(source) => read_some(&mut source.bytes, buffer).map_err(source.report),
        None => Ok(0),
    });
    read.unwrap_or_report() as c_int
}

fn read_some(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
