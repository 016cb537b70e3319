//! Arguments and results of type text: PostgreSQL has them in the database's encoding, the code has them in
//! UTF-8.
//!
//! pgrx passes `&str` and `String` without conversion, which is right only in a UTF-8 database.

use std::ffi::CString;
use std::fmt;
use std::ops::Deref;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, UnboxDatum};
use pgrx::nullable::Nullable;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Oid};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum};

use crate::pg::encoding;

/// A value of type text, in UTF-8.
pub struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.to_owned())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, type_oid: Oid) -> Option<Text> {
        // SAFETY: the caller promises a datum of type text, which has the layout of bytea.
        let bytes = unsafe { Vec::<u8>::from_polymorphic_datum(datum, is_null, type_oid) }?;
        // The server's text contains no null character, in any encoding.
        let text = CString::new(bytes).unwrap_or_default();
        Some(Text(encoding::from_server(&text).map_err(ErrorReport::from).unwrap_or_report()))
    }
}

// SAFETY: an element of an array is read by `FromDatum`.
unsafe impl UnboxDatum for Text {
    type As<'src> = Text;

    unsafe fn unbox<'src>(datum: Datum<'src>) -> Text
    where
        Self: 'src,
    {
        // SAFETY: SQL declares the array as text[], and a null is no datum.
        let text = unsafe { Text::from_polymorphic_datum(datum.sans_lifetime(), false, pg_sys::TEXTOID) };
        text.unwrap_or_else(|| Text(String::new()))
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = encoding::to_server(&self.0).map_err(ErrorReport::from).unwrap_or_report();
        // SAFETY: a C string in the server's encoding; the copy lives in the current memory context.
        Some(pg_sys::Datum::from(unsafe { pg_sys::cstring_to_text(text.as_ptr()) }))
    }

    fn type_oid() -> Oid {
        pg_sys::TEXTOID
    }
}

// SAFETY: SQL declares every such argument and result as text.
unsafe impl SqlTranslatable for Text {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Text);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("text"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("text")));
}

// SAFETY: an argument is read by `FromDatum`.
unsafe impl<'fcx> ArgAbi<'fcx> for Text {
    // Not called for a null: `Option` checks for it first, and a function with a plain `Text` is STRICT.
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Text {
        // SAFETY: SQL declares the argument as text.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or_else(|| Text(String::new()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Text> {
        // SAFETY: SQL declares the argument as text.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: a result is made by `IntoDatum`.
unsafe impl BoxRet for Text {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: a datum of the type that SQL declares.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
