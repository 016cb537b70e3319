//! The fields of a line of COPY text, how values become fields, and records without those for which a
//! destination has no place.
//!
//! Input: records in COPY text. Output: the same with fewer fields. The inner reader still sees, and checks,
//! all of them.

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

/// Leaves fields out of lines of COPY text, while they pass.
pub struct Without<R> {
    records: BufReader<R>,
    /// Which fields of a line are left out, counted from 0.
    fields: Vec<usize>,
    line: Vec<u8>,
    passed: usize,
}

impl<R: Read> Without<R> {
    /// Reads records, which may be in no other format.
    pub fn new(records: R, fields: Vec<usize>) -> Self {
        Self { records: BufReader::new(records), fields, line: Vec::new(), passed: 0 }
    }

    /// Reads the next line, and leaves nothing of it but what is wanted. At the end it is empty.
    fn advance(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        self.records.read_until(b'\n', &mut line)?;
        let ends = line.pop_if(|byte| *byte == b'\n').is_some();
        self.line.clear();
        self.passed = 0;
        if !ends && line.is_empty() {
            return Ok(());
        }
        let kept = of_line(&line)
            .enumerate()
            .filter(|(place, _)| !self.fields.contains(place))
            .map(|(_, field)| field);
        self.line = kept.collect::<Vec<_>>().join(&b'\t');
        self.line.extend(ends.then_some(b'\n'));
        Ok(())
    }
}

impl<R: Read> Read for Without<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.passed == self.line.len() {
            self.advance()?;
        }
        let left = &self.line[self.passed..];
        let bytes = left.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&left[..bytes]);
        self.passed += bytes;
        Ok(bytes)
    }
}
