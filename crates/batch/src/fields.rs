//! The fields of a line of COPY text, how values become fields, and records without those for which a
//! destination has no place.
//!
//! Input: records in COPY text. Output: the same with fewer fields. The inner reader still sees, and checks,
//! all of them.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};

/// The fields of a line without its newline. Neither a tab nor a newline is ever part of a field: COPY writes
/// both in another way.
pub(super) fn of_line(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b'\t')
}

/// A null, as a field.
pub(super) const NULL: &[u8] = b"\\N";

/// Writes a byte of a value as a field has it.
pub(super) fn escape(byte: u8, line: &mut Vec<u8>) {
    let escaped = match byte {
        b'\\' => b'\\',
        b'\t' => b't',
        b'\n' => b'n',
        b'\r' => b'r',
        0x08 => b'b',
        0x0B => b'v',
        0x0C => b'f',
        _ => return line.push(byte),
    };
    line.extend([b'\\', escaped]);
}

/// Returns values as a line of COPY text without its newline.
pub fn line_of<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut line = Vec::new();
    for (place, value) in values.into_iter().enumerate() {
        if place > 0 {
            line.push(b'\t');
        }
        match value {
            None => line.extend(NULL),
            Some(value) => value.bytes().for_each(|byte| escape(byte, &mut line)),
        }
    }
    line
}

/// Returns the values of a line of COPY text without its newline: what [`line_of`] was given.
pub fn values_of(line: &[u8]) -> Vec<Option<String>> {
    of_line(line).map(|field| (field != NULL).then(|| unescape(field))).collect()
}

fn unescape(field: &[u8]) -> String {
    let mut value = Vec::new();
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        value.push(match byte {
            b'\\' => match bytes.next().unwrap_or(b'\\') {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'b' => 0x08,
                b'v' => 0x0B,
                b'f' => 0x0C,
                other => other,
            },
            byte => byte,
        });
    }
    String::from_utf8_lossy(&value).into_owned()
}

/// Leaves fields out of lines of COPY text, while they pass. It holds no line, however long.
pub struct Without<R> {
    records: BufReader<R>,
    /// Which fields of a line are left out, counted from 0.
    fields: HashSet<usize>,
    /// The place in its line of the field that is passing.
    place: usize,
    /// A field of the line has been kept.
    has_kept: bool,
}

impl<R: Read> Without<R> {
    /// Reads records, which may be in no other format.
    pub fn new(records: R, fields: Vec<usize>) -> Self {
        let fields = fields.into_iter().collect::<HashSet<_>>();
        let has_kept = !fields.contains(&0);
        Self { records: BufReader::new(records), fields, place: 0, has_kept }
    }

    /// Returns what is left of a byte.
    fn pass(&mut self, byte: u8) -> Option<u8> {
        match byte {
            b'\n' => {
                self.place = 0;
                self.has_kept = self.is_kept();
                Some(byte)
            }
            b'\t' => {
                self.place += 1;
                let follows = self.is_kept() && self.has_kept;
                self.has_kept |= self.is_kept();
                follows.then_some(byte)
            }
            _ => self.is_kept().then_some(byte),
        }
    }

    fn is_kept(&self) -> bool {
        !self.fields.contains(&self.place)
    }
}

impl<R: Read> Read for Without<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut passed = 0;
        while passed == 0 && !buffer.is_empty() {
            let bytes = self.records.fill_buf()?.len().min(buffer.len());
            if bytes == 0 {
                break;
            }
            for at in 0..bytes {
                if let Some(byte) = self.pass(self.records.buffer()[at]) {
                    buffer[passed] = byte;
                    passed += 1;
                }
            }
            self.records.consume(bytes);
        }
        Ok(passed)
    }
}
