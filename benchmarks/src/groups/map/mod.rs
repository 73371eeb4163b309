//! Maps over worker processes: their speed, and their answer to slow items, crashes and kills.

mod speed;
mod slow_item;
mod faults;
mod single_run;
pub(crate) mod master_cost;
mod whole_program;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = speed::figures();
    figures.push(slow_item::figure());
    figures.extend(faults::figures());
    figures.push(single_run::figure());
    figures.extend(master_cost::figures());
    figures.push(whole_program::figure());
    Ok(figures)
}
