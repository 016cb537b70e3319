//! Positions: the instant up to which a target has been exported, and which changes come after it.
//!
//! A position is the snapshot that an export has read in. A change belongs to the next batch if and
//! only if its transaction was not visible in the position: it began after the snapshot (`xid >= xmax`), or
//! was in progress then (`xid = ANY (xip)`). The shadow is read in the snapshot of the next export, so
//! PostgreSQL itself decides what has been committed by then. Both conditions are plain comparisons: their
//! cost does not grow with the age of the oldest transaction, as that of
//! `NOT pg_visible_in_snapshot(xid, position)` over everything from xmin on would.

use std::fmt;
use std::str::FromStr;

/// A snapshot, with the parts of PostgreSQL's type `pg_snapshot`. All ids are of top-level transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    xmin: u64,
    xmax: u64,
    xip: Vec<u64>,
}

impl Position {
    /// Returns the first transaction id that had not been assigned yet.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Says whether a transaction had committed or been aborted when the snapshot was taken.
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && !self.xip.contains(&xid)
    }

    /// Counts a transaction as in progress, so that its changes come after the position.
    ///
    /// A snapshot never lists its own transaction: if that has an id when the snapshot is taken, it must be
    /// added.
    pub fn add_in_progress(&mut self, xid: u64) {
        if xid < self.xmax
            && let Err(place) = self.xip.binary_search(&xid)
        {
            self.xip.insert(place, xid);
            self.xmin = self.xmin.min(xid);
        }
    }

    /// Returns the SQL condition that a change with the id `xid` comes after the position.
    ///
    /// Qualified, because it becomes part of queries that run as the owner of the table.
    pub fn changes_after(&self) -> String {
        let xip = self.xip.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        format!(
            "(xid OPERATOR(pg_catalog.>=) '{}'::pg_catalog.xid8 \
             OR xid OPERATOR(pg_catalog.=) ANY ('{{{xip}}}'::pg_catalog.xid8[]))",
            self.xmax
        )
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xip = self.xip.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{}:{}:{xip}", self.xmin, self.xmax)
    }
}

/// Why a text is no position.
#[derive(Debug)]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Position, NoPosition> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(NoPosition);
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoPosition);
        let (xmin, xmax, xip) = (number(part()?)?, number(part()?)?, part()?);
        let xip = xip.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<_, _>>()?;
        Ok(Position { xmin, xmax, xip })
    }
}

#[cfg(test)]
mod tests {
    use super::Position;

    fn position(text: &str) -> Position {
        text.parse().expect("a position")
    }

    #[test]
    fn reads_and_prints_as_postgresql_does() {
        for text in ["10:20:10,14,15", "750:750:", "4294967298:4294967300:4294967298"] {
            assert_eq!(position(text).to_string(), text);
        }
        for text in ["", "1:2", "a:b:c", "1:2:x"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_own_transaction_counts_as_in_progress() {
        let mut with = position("10:20:10,14");
        with.add_in_progress(12);
        with.add_in_progress(12);
        assert_eq!(with.to_string(), "10:20:10,12,14");
        with.add_in_progress(8);
        assert_eq!(with.to_string(), "8:20:8,10,12,14");
        with.add_in_progress(20);
        assert_eq!(with.to_string(), "8:20:8,10,12,14", "from xmax on it comes after the position anyway");
    }

    #[test]
    fn sees_what_had_ended() {
        let position = position("10:20:10,14");
        let seen = (8..22).filter(|&xid| position.sees(xid)).collect::<Vec<_>>();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn the_window_is_what_was_not_visible() {
        let condition = position("10:20:10,14").changes_after();
        assert!(condition.contains(">=) '20'::pg_catalog.xid8"));
        assert!(condition.contains("'{10,14}'::pg_catalog.xid8[]"));
    }
}
