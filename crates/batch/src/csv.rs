//! Records in the CSV of COPY, read as lines of COPY text.
//!
//! Input: a stream of CSV. Output: each record as the line that COPY writes of it in format text, without its
//! newline.
//!
//! In CSV a null is an empty field without quotes, and an empty text is one with them (copyto.c,
//! CopyAttributeOutCSV).

use std::io::{self, BufRead};

use super::fields;

/// The records that are left in a stream.
pub(super) struct Records<R> {
    csv: R,
    line: Vec<u8>,
}

/// Where in a field the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Unquoted,
    Quoted,
    /// After a quote within quotes: the end, or the first half of a doubled one.
    Quote,
}

impl<R: BufRead> Records<R> {
    pub(super) fn of(csv: R) -> Records<R> {
        Records { csv, line: Vec::new() }
    }

    pub(super) fn into_inner(self) -> R {
        self.csv
    }

    /// Returns the next record; `None` at the end.
    pub(super) fn next_as_text(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let (mut at, mut any) = (At::Begin, false);
        loop {
            let bytes = self.csv.fill_buf()?;
            if bytes.is_empty() {
                return match (any, at) {
                    (false, _) => Ok(None),
                    (true, At::Quoted) => Err(io::Error::other("it ends within quotes")),
                    (true, _) => Err(io::Error::other("its last record does not end")),
                };
            }
            any = true;
            let (mut taken, mut is_complete) = (0, false);
            for &byte in bytes {
                taken += 1;
                at = match (at, byte) {
                    (At::Begin, b'"') => At::Quoted,
                    (At::Quoted, b'"') => At::Quote,
                    (At::Quote, b'"') => {
                        self.line.push(b'"');
                        At::Quoted
                    }
                    (At::Quoted, byte) => {
                        fields::escape(byte, &mut self.line);
                        At::Quoted
                    }
                    (_, b',' | b'\n') => {
                        if at == At::Begin {
                            self.line.extend(fields::NULL);
                        }
                        is_complete = byte == b'\n';
                        if !is_complete {
                            self.line.push(b'\t');
                        }
                        At::Begin
                    }
                    (_, byte) => {
                        fields::escape(byte, &mut self.line);
                        At::Unquoted
                    }
                };
                if is_complete {
                    break;
                }
            }
            self.csv.consume(taken);
            if is_complete {
                return Ok(Some(&self.line));
            }
        }
    }
}
