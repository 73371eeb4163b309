//! Calls `u64 -> u64`: latency, throughput, and their cost when idle.

mod sequential;
mod loaded;
mod several_workers;
mod wait;
pub(in crate::groups) mod in_flight;
mod multi_thread;
mod idle_cpu;

use crate::figure::Figure;

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut figures = sequential::figures()?;
    figures.extend(wait::figures()?);
    figures.extend(loaded::figures()?);
    figures.extend(several_workers::figures());
    figures.push(in_flight::figure());
    figures.extend(multi_thread::figures());
    figures.push(idle_cpu::figure());
    Ok(figures)
}
