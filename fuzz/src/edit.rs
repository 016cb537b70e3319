//! Changes of bytes, as disks, lines and people make them.

use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// A change at one place, which is taken modulo the places there are.
#[derive(Arbitrary, Debug)]
pub struct Edit {
    at: u16,
    change: Change,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Flip { bit: u8 },
    Overwrite(Vec<u8>),
    Insert(Vec<u8>),
    Cut { length: u16 },
    Repeat { length: u16 },
    Truncate,
}

impl Edit {
    /// Changes a content.
    pub fn apply(&self, content: &mut Vec<u8>) {
        let at = usize::from(self.at) % (content.len() + 1);
        let up_to = |length: usize| at..content.len().min(at + length);
        match &self.change {
            Change::Flip { bit } => content[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (bit % 8)),
            Change::Overwrite(bytes) => drop(content.splice(up_to(bytes.len()), bytes.iter().copied())),
            Change::Insert(bytes) => drop(content.splice(at..at, bytes.iter().copied())),
            Change::Cut { length } => drop(content.drain(up_to((*length).into()))),
            Change::Repeat { length } => {
                let repeated = content[up_to((*length).into())].to_vec();
                content.splice(at..at, repeated);
            }
            Change::Truncate => content.truncate(at),
        }
    }
}
