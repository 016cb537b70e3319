//! What the checks before an import find. They are the same for an import, which the first obstacle ends, and
//! for a plan, which shows all.

use crate::error::{Error, Result};
use crate::pg::transaction::Obstacle;

/// What becomes of an obstacle.
pub enum Obstacles {
    /// It is raised.
    Raised,
    /// It is collected, and the checks go on.
    Collected(Vec<Error>),
}

impl Obstacles {
    /// Raises an obstacle, or collects it.
    pub fn meet(&mut self, obstacle: impl Into<Error>) -> Result<()> {
        let obstacle = obstacle.into();
        match self {
            Obstacles::Collected(met) if !obstacle.is_interrupt() => {
                met.push(obstacle);
                Ok(())
            }
            _ => Err(obstacle),
        }
    }

    /// Takes out what has been collected.
    pub fn take(&mut self) -> Vec<Obstacle> {
        match self {
            Obstacles::Raised => Vec::new(),
            Obstacles::Collected(met) => met.drain(..).map(Obstacle::from).collect(),
        }
    }

    /// Returns what a check has returned; `None` if it has met an obstacle that was collected.
    pub fn pass<T>(&mut self, checked: Result<T>) -> Result<Option<T>> {
        match checked {
            Ok(passed) => Ok(Some(passed)),
            Err(obstacle) => self.meet(obstacle).map(|()| None),
        }
    }
}
