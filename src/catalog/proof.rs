//! `table_export.proof`: what the last comparison of a table with a store has shown.

use crate::catalog::in_utc;
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query::{Row, in_transaction, latest};
use batch::Verified;

/// An outcome, as `table_export.proof` keeps it.
pub struct ProofRow<'a> {
    pub target: &'a str,
    pub relation: Oid,
    /// The batch that the table was compared with.
    pub number: u64,
    /// Whether what was compared was equal; `None` if nothing was.
    pub equal: Option<bool>,
    /// Whether everything was compared.
    pub complete: bool,
    pub missing: u64,
    pub extra: u64,
    pub different: u64,
}

/// Remembers an outcome in place of the one before, and forgets those of tables that have been dropped. That
/// a part of the rows is equal does not end a difference.
pub fn put_proof(row: &ProofRow) -> Result<()> {
    let gone = "DELETE FROM table_export.proof AS p
                 WHERE target = $1 AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = p.relation)";
    latest(gone, &[&row.target])?;
    let sql = "INSERT INTO table_export.proof
                      (target, relation, number, equal, complete, missing, extra, different)
               VALUES ($1, $2::regclass, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (target, relation) DO UPDATE
                  SET number = excluded.number, equal = excluded.equal, complete = excluded.complete,
                      missing = excluded.missing, extra = excluded.extra, different = excluded.different,
                      verified_at = excluded.verified_at
                WHERE excluded.complete OR proof.equal IS NOT FALSE OR excluded.equal IS FALSE";
    let ProofRow { target, relation, number, equal, complete, missing, extra, different } = row;
    latest(sql, &[target, relation, number, equal, complete, missing, extra, different])?;
    Ok(())
}

/// Returns what comparisons of the copies that a target is sent to have shown; `None` if there was none.
pub fn verified(target: &str) -> Result<Option<Verified>> {
    let sql = format!(
        "SELECT {}, min(p.number),
                      CASE WHEN bool_or(NOT p.equal) THEN false
                           WHEN bool_and(COALESCE(p.equal AND p.complete, false)) THEN true END
                 FROM table_export.copy AS c
                 JOIN pg_class AS k ON k.oid = c.relation
                 LEFT JOIN table_export.proof AS p ON p.target = c.target AND p.relation = c.relation
                WHERE c.target = $1 AND c.not_sent_since IS NULL
               HAVING count(p.relation) > 0",
        in_utc("min(p.verified_at)")
    );
    let verified =
        |row: &Row| Ok(Verified { at: row.get(0)?, number: row.get(1)?, equal: row.optional_flag(2) });
    in_transaction(&sql, &[&target])?.first().map(verified).transpose()
}

/// Forgets what comparisons of a target's tables have shown.
pub fn remove_proofs(target: &str) -> Result<()> {
    latest("DELETE FROM table_export.proof WHERE target = $1", &[&target])?;
    Ok(())
}
