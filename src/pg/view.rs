//! Views: what the definition of one says, as the rewriter would use it.

use pgrx::pg_sys::{self, Oid};
use pgrx::{PgList, is_a};

use crate::pg::table::Table;

/// A column of a view.
pub struct Shown {
    /// Its number in the view.
    pub attnum: i16,
    /// The number of the column of the table that it is; `None` for an expression.
    pub of: Option<i16>,
}

/// What keeps a view from showing a table row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("It is not a view.")]
    NotAView,
    #[error("It is more than columns, expressions and a condition over one row.")]
    NotRowByRow,
    #[error("It is over more than one table.")]
    SeveralTables,
    #[error("It is over another table.")]
    OtherTable,
    #[error("It is over a sample of the table.")]
    Sample,
    #[error("It shows rows of inheritance children: FROM must say ONLY.")]
    ShowsChildren,
    #[error("It calls a function that is not IMMUTABLE.")]
    NotImmutable,
    #[error("It uses the whole row, or a system column.")]
    NotByColumns,
}

/// Returns what a view shows of a table, row by row, or what keeps it from being that.
///
/// Whether the view shows a row, and with which values, must depend on that row alone. Otherwise what it
/// shows could change without a change of the table.
pub fn columns_of(view: &Table, table: &Table) -> Result<Vec<Shown>, Unfit> {
    if !view.is_view() {
        return Err(Unfit::NotAView);
    }
    // SAFETY: an open view; its rule stays as long as it is open and locked (rewriteHandler.c).
    let query = unsafe { &*pg_sys::get_view_query(view.as_ptr()) };
    let is_plain = !query.hasAggs
        && !query.hasWindowFuncs
        && !query.hasTargetSRFs
        && !query.hasSubLinks
        && query.setOperations.is_null()
        && query.distinctClause.is_null()
        && query.groupClause.is_null()
        && query.groupingSets.is_null()
        && query.havingQual.is_null()
        && query.limitCount.is_null()
        && query.limitOffset.is_null()
        && query.cteList.is_null();
    if !is_plain {
        return Err(Unfit::NotRowByRow);
    }
    let Some((place, entry)) = only_entry(query) else { return Err(Unfit::SeveralTables) };
    if entry.relid != table.oid() {
        return Err(Unfit::OtherTable);
    }
    if !entry.tablesample.is_null() {
        return Err(Unfit::Sample);
    }
    if entry.inh && !table.is_partitioned() && table.has_children() {
        return Err(Unfit::ShowsChildren);
    }
    // SAFETY: the query of the view, of which nothing is changed (clauses.c).
    if unsafe { pg_sys::contain_mutable_functions(std::ptr::from_ref(query).cast_mut().cast()) } {
        return Err(Unfit::NotImmutable);
    }
    if !has_only_columns(query, place) {
        return Err(Unfit::NotByColumns);
    }
    // SAFETY: a list of target entries.
    let targets = unsafe { PgList::<pg_sys::TargetEntry>::from_pg(query.targetList) };
    // SAFETY: entries of that list, which lives as long as the query.
    let targets = targets.iter_ptr().map(|target| unsafe { &*target }).filter(|target| !target.resjunk);
    Ok(targets.map(|target| Shown { attnum: target.resno, of: column(target.expr, place) }).collect())
}

/// Returns the only thing in FROM, if it is a table, and its place among the query's.
fn only_entry(query: &pg_sys::Query) -> Option<(i32, &pg_sys::RangeTblEntry)> {
    // SAFETY: every query has a FromExpr; it and its lists live as long as the query.
    unsafe {
        let from = PgList::<pg_sys::Node>::from_pg((*query.jointree).fromlist);
        let item =
            from.get_ptr(0).filter(|&item| from.len() == 1 && is_a(item, pg_sys::NodeTag::T_RangeTblRef))?;
        let place = (*item.cast::<pg_sys::RangeTblRef>()).rtindex;
        let entries = PgList::<pg_sys::RangeTblEntry>::from_pg(query.rtable);
        let entry = &*entries.get_ptr(usize::try_from(place).ok()?.checked_sub(1)?)?;
        (entry.rtekind == pg_sys::RTEKind::RTE_RELATION).then_some((place, entry))
    }
}

/// Says whether what a query uses of its table are columns by name: a row as a whole gets more columns
/// without any row changing, and VACUUM FULL gives rows another place.
fn has_only_columns(query: &pg_sys::Query, place: i32) -> bool {
    let mut used = std::ptr::null_mut();
    // SAFETY: expressions of the query, which has no subquery; the set is palloc'd (var.c, bitmapset.c).
    let least = unsafe {
        for expressions in [query.targetList.cast(), (*query.jointree).quals] {
            pg_sys::pull_varattnos(expressions, place as _, &raw mut used);
        }
        pg_sys::bms_next_member(used, -1)
    };
    least < 0 || least + pg_sys::FirstLowInvalidHeapAttributeNumber > 0
}

/// Returns the number of the column if an expression is a plain column, and `None` otherwise.
fn column(expression: *mut pg_sys::Expr, place: i32) -> Option<i16> {
    // SAFETY: an expression of the query; cast to what its tag says that it is.
    unsafe {
        if !is_a(expression.cast(), pg_sys::NodeTag::T_Var) {
            return None;
        }
        let variable = &*expression.cast::<pg_sys::Var>();
        (i64::from(variable.varno) == i64::from(place) && variable.varlevelsup == 0 && variable.varattno > 0)
            .then_some(variable.varattno)
    }
}

/// Returns a digest of the definition of a view: its text, who wrote its functions last, and the numbers of
/// the columns that it uses. A column that was made anew has another number, and may have the same name.
pub fn definition_digest(view: Oid) -> Result<String, crate::pg::error::Error> {
    let rows = crate::pg::query::in_snapshot(include_str!("view_digest.sql"), &[&view])?;
    rows.first().ok_or_else(|| crate::pg::error::Error::Internal("a view has no definition".into()))?.get(0)
}
