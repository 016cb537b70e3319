//! What errors of stores and batches say beside their messages.

use std::io;

use pgrx::PgSqlErrorCode::*;

use super::{Facts, Report, literal, plain};
use batch::reader;

/// The HINT for a batch that is damaged.
pub fn copy_again(target: &str) -> String {
    format!(
        "Copy the batch again from a store in which it is undamaged. If there is none, run at the source: \
         SELECT tx_reset({0}); SELECT * FROM tx_export({0});",
        literal(target)
    )
}

/// The SQLSTATEs are those to which errcode_for_file_access maps errno (elog.c).
impl Report for store::Error {
    fn facts(&self) -> Facts {
        match self {
            store::Error::NotFound { .. } => plain(ERRCODE_UNDEFINED_FILE)
                .hint("The directory must exist and belong to the operating-system user of the server."),
            store::Error::Exists { .. } => plain(ERRCODE_DUPLICATE_FILE),
            store::Error::Name { .. } => plain(ERRCODE_INVALID_NAME),
            store::Error::Unsupported { location } => Facts {
                hint: location.strip_prefix("file://").filter(|path| !path.starts_with('/')).map(|path| {
                    format!("The URL of a directory has three slashes, as in \"file:///{path}\".")
                }),
                ..plain(ERRCODE_FEATURE_NOT_SUPPORTED)
            },
            store::Error::Replaces { .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED),
            store::Error::Secret => plain(ERRCODE_INVALID_PARAMETER_VALUE).hint(
                "Credentials come from the environment, or from files, of the operating-system user of the server.",
            ),
            store::Error::Profile { .. } => plain(ERRCODE_CONFIG_FILE_ERROR),
            store::Error::Interrupted { .. } => plain(ERRCODE_QUERY_CANCELED),
            store::Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                    .hint("Give the operating-system user of the server the right to it."),
                io::ErrorKind::ReadOnlyFilesystem => plain(ERRCODE_INSUFFICIENT_PRIVILEGE),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    plain(ERRCODE_DISK_FULL).hint("Check free disk space, and run it again.")
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => plain(ERRCODE_WRONG_OBJECT_TYPE),
                _ => plain(ERRCODE_IO_ERROR),
            },
        }
    }
}

impl Report for batch::Error {
    fn facts(&self) -> Facts {
        let facts = match self {
            batch::Error::Store(error) => {
                let facts = error.facts();
                match error {
                    store::Error::NotFound { .. } => {
                        facts.hint("Copy the files of the batch to the store completely.")
                    }
                    _ => facts,
                }
            }
            batch::Error::Manifest { path, .. } | batch::Error::Damaged { path, .. } => {
                let facts = plain(ERRCODE_DATA_CORRUPTED);
                Facts { hint: reader::target_of(path).as_deref().map(copy_again), ..facts }
            }
            batch::Error::FutureFormat { .. } => {
                plain(ERRCODE_FEATURE_NOT_SUPPORTED).hint("Upgrade pg_table_export here.")
            }
            batch::Error::Unmergeable { .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED),
            batch::Error::Number { .. } => plain(ERRCODE_PROGRAM_LIMIT_EXCEEDED).hint(
                "Use another name for the target, or remove the manifest with the highest number from the store.",
            ),
            batch::Error::Scratch(source) => plain(match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ERRCODE_DISK_FULL,
                _ => ERRCODE_IO_ERROR,
            }),
            batch::Error::ScratchLimit { .. } => plain(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
            batch::Error::Stream(_) => plain(ERRCODE_IO_ERROR),
        };
        facts.detail("Nothing was changed.")
    }
}
