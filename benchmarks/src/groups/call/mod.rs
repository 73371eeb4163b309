//! Calls `u64 -> u64`: latency and throughput.

mod sequential;
pub(in crate::groups) mod in_flight;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = sequential::figures()?;
    figures.push(in_flight::figure());
    Ok(figures)
}
