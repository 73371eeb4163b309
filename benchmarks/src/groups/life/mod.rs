//! Deaths that are noticed, idle workers, and a thousand at once.

mod death;
pub(crate) mod idle;
pub(crate) mod thousand;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![death::figure()];
    figures.extend(idle::figures());
    figures.extend(thousand::figures());
    Ok(figures)
}
