//! Writes the files of a batch.
//!
//! Input: a table, and what is sent of it. Output: its part of the batch, and the header of the manifest.
//!
//! Invariant: everything is read in the active snapshot, and each table as its owner.

use pgrx::PgSqlErrorCode::{self, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE};
use pgrx::spi::quote_identifier;

use crate::catalog::DatabaseIdentity;
use crate::catalog::position::Position;
use crate::error::{Error, Result, literal};
use crate::fault::{self, Point};
use crate::pg::copy::copy_to;
use crate::pg::user::Caller;
use crate::source::error::ExportError;
use crate::source::export::candidate::{Candidate, columns, key_names};
use crate::source::export::plan::Moment;
use crate::source::fork::{Continuation, Healing};
use crate::source::shadow::read;
use crate::table::key::KeyColumn;
use crate::table::shape::Shape;
use crate::table::within::within;
use batch::{self, Counted, FileWriter, Format, Header, Kind, Part, PartWriter, Writer};

/// Writes the three files of a table, read as its owner.
pub(super) fn write_part(
    writer: &Writer,
    candidate: &Candidate,
    kind: Kind,
    since: Option<&Position>,
    format: Format,
    caller: &Caller,
) -> Result<Part> {
    let Candidate { tracked, table, shape, rows, healing, ranges, .. } = candidate;
    let key = &candidate.key()?;
    let mut part = begin_part(writer, shape, key, kind, format)?;
    part.replace(ranges.clone());
    let mut further = Vec::new();
    if let Healing::Keys(name) = healing {
        further.push(read::healed_query(name, key));
    }
    if let Some(condition) = within(ranges, &columns(shape), shape, "t")? {
        further.push(read::keys_within(rows, key, &condition));
    }
    let copy = |query: &str, format: Format, file: FileWriter| {
        let (rows, file) = copy_to::<_, Error>(query, format.name(), file)?;
        Ok::<_, Error>(Counted { rows, file })
    };
    let (ids, records) = caller.as_owner(table, || {
        let (ids, query) = match (kind, since) {
            (Kind::Changes, Some(since)) => {
                let keys = read::keys_query(tracked, since, key, &further)?;
                let ids = copy(&keys, Format::Text, part.ids()?)?;
                (ids, read::records_query(shape, rows, key, &keys))
            }
            (Kind::Baseline, _) => {
                let none = format!("{} LIMIT 0", read::all_records_query(shape, rows));
                (Counted { rows: 0, file: part.ids()? }, none)
            }
            _ => (Counted { rows: 0, file: part.ids()? }, read::all_records_query(shape, rows)),
        };
        fault::point(Point::ExportIdsWritten);
        if let Some(key) = read::key_of_several(key, &query)? {
            return Err(ExportError::SeveralRows { table: shape.name_for_errors(), key }.into());
        }
        Ok::<_, Error>((ids, copy(&query, format, part.records()?)?))
    })?;
    Ok(part.finish(ids, records)?)
}

/// Says how to find the rows of a table that cannot be written to a batch, in a database without encoding,
/// and with which SQLSTATE PostgreSQL refuses them.
pub(super) fn rows_not_utf8(candidate: &Candidate) -> (PgSqlErrorCode, String) {
    // All characters of UTF-8 but those of ASCII (Unicode, table 3-7).
    const CHARACTERS: [&str; 7] = [
        r"[\xc2-\xdf][\x80-\xbf]",
        r"\xe0[\xa0-\xbf][\x80-\xbf]",
        r"[\xe1-\xec\xee\xef][\x80-\xbf]{2}",
        r"\xed[\x80-\x9f][\x80-\xbf]",
        r"\xf0[\x90-\xbf][\x80-\xbf]{2}",
        r"[\xf1-\xf3][\x80-\xbf]{3}",
        r"\xf4[\x80-\x8f][\x80-\xbf]{2}",
    ];
    let key = candidate.key_names().iter().map(quote_identifier).collect::<Vec<_>>();
    let hint = format!(
        "Files of batches are in UTF-8. To see which rows are not, run: \
         SELECT {} FROM {} AS t WHERE regexp_replace(t::text, {}, '', 'g') ~ {};",
        key.join(", "),
        candidate.rows,
        literal(&CHARACTERS.join("|")),
        literal(r"[\x80-\xff]")
    );
    (ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, hint)
}

/// Begins the part of a table.
pub(super) fn begin_part<'a>(
    writer: &'a Writer,
    shape: &Shape,
    key: &[KeyColumn],
    kind: Kind,
    format: Format,
) -> Result<PartWriter<'a>> {
    Ok(writer.part(&shape.schema, &shape.name, columns(shape), key_names(key), kind, format)?)
}

/// Returns what the manifest says besides its parts.
pub(super) fn header(
    continuation: &Continuation,
    source: &DatabaseIdentity,
    moment: &Moment,
    kind: Kind,
    unchanged: Vec<batch::Table>,
) -> Header {
    Header {
        previous: continuation.previous,
        kind,
        source: batch::Origin {
            system_identifier: source.publisher.system_identifier.clone(),
            database: source.database_name.clone(),
            database_oid: source.publisher.database_oid,
            timeline: source.timeline,
            lsn: moment.lsn.clone(),
            server_version: source.server_version.clone(),
            encoding: source.encoding.clone(),
        },
        former_publishers: continuation.former_publishers.clone(),
        position: moment.position.to_string(),
        created_at: moment.time.clone(),
        unchanged,
    }
}
