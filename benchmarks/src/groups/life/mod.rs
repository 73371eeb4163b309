//! Notice of failures, idle workers, and 1,000 workers.

mod failure_notice;
pub(crate) mod idle;
pub(crate) mod thousand_workers;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![failure_notice::figure()];
    figures.extend(idle::figures());
    figures.extend(thousand_workers::figures());
    Ok(figures)
}
