//! Deaths that are noticed, idle workers, and a thousand at once.

mod exit_reason;
pub(crate) mod idle;
pub(crate) mod thousand;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![exit_reason::figure()];
    figures.extend(idle::figures());
    figures.extend(thousand::figures());
    Ok(figures)
}
