//! Streams, large arguments, and cancelled calls.

mod numbers;
mod bulk;
mod fairness;
mod cancel;
pub(crate) mod open_streams;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = numbers::figures();
    figures.extend(bulk::figures());
    figures.extend(fairness::figures());
    figures.push(cancel::figure());
    figures.extend(open_streams::figures());
    Ok(figures)
}
