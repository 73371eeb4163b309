//! Interleaved rounds: each round measures every contender once.
//!
//! The speed of a machine drifts within seconds, so absolute values are not comparable. Each round
//! gives the ratio of a contender to the first contender, measured within the same round, and the
//! report has the median of these ratios.

use std::num::NonZeroUsize;

use anyhow::{Context, ensure};

use crate::figure::{Figure, TARPC};

/// One line of a report: the medians of a contender over all rounds.
pub(crate) struct Row {
    pub(crate) figure: &'static str,
    pub(crate) contender: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) ratio: f64,
    /// `None` if the figure does not measure tarpc.
    pub(crate) ratio_to_tarpc: Option<f64>,
}

/// Measures a figure.
pub(crate) fn run(mut figure: Figure, rounds: NonZeroUsize) -> anyhow::Result<Vec<Row>> {
    let rounds = rounds.min(figure.max_rounds).get();
    let count = figure.contenders.len();
    let mut values = vec![Vec::with_capacity(rounds); count];
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", figure.name, round + 1);
        for turn in 0..count {
            // The first contender rotates, so that after-effects of a measurement affect all
            // equally.
            let index = (round + turn) % count;
            let contender = &mut figure.contenders[index];
            let value = (contender.measure)()
                .and_then(|it| {
                    ensure!(it.is_finite() && it > 0.0, "expected a positive value, found {it}");
                    Ok(it)
                })
                .with_context(|| {
                    format!("failed to measure `{}` of {}", figure.name, contender.name)
                })?;
            values[index].push(value);
        }
    }
    let names: Vec<_> = figure.contenders.into_iter().map(|it| it.name).collect();
    Ok(summarize(figure.name, figure.unit, &names, &values))
}

fn summarize(
    figure: &'static str,
    unit: &'static str,
    names: &[String],
    values: &[Vec<f64>],
) -> Vec<Row> {
    let tarpc = names.iter().position(|it| it == TARPC).map(|it| &values[it]);
    names
        .iter()
        .zip(values)
        .map(|(name, own)| Row {
            figure,
            contender: name.clone(),
            unit,
            value: median(own.iter().copied()),
            min: own.iter().copied().fold(f64::INFINITY, f64::min),
            max: own.iter().copied().fold(0.0, f64::max),
            ratio: median_ratio(own, &values[0]),
            ratio_to_tarpc: tarpc.map(|it| median_ratio(own, it)),
        })
        .collect()
}

fn median_ratio(values: &[f64], to: &[f64]) -> f64 {
    median(values.iter().zip(to).map(|(value, to)| value / to))
}

/// Returns the middle value, or the mean of the two middle values.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{FLOOR, RPC_PARALLEL};

    fn rounds(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).expect("the count is not 0")
    }

    #[test]
    fn ratios_are_taken_within_each_round() {
        // The machine becomes slower in later rounds.
        let mut floor = [1.0, 2.0, 10.0].into_iter();
        let mut program = [1.5, 3.0, 15.0].into_iter();
        let figure = Figure::new("it", "us")
            .contender(FLOOR, move || floor.next().context("more than three rounds"))
            .contender(RPC_PARALLEL, move || program.next().context("more than three rounds"));

        let rows = run(figure, rounds(3)).expect("all contenders have three values");

        assert_eq!((rows[0].value, rows[0].ratio), (2.0, 1.0));
        assert_eq!((rows[1].value, rows[1].ratio), (3.0, 1.5));
        assert_eq!((rows[1].min, rows[1].max), (1.5, 15.0));
    }

    #[test]
    fn failed_measurement_fails_the_run() {
        let figure = Figure::new("it", "us")
            .contender(FLOOR, || Ok(1.0))
            .contender(TARPC, || anyhow::bail!("no such socket"));

        let error = run(figure, rounds(1)).err().expect("the second contender fails");

        assert_eq!(format!("{error:#}"), "failed to measure `it` of tarpc: no such socket");
    }

    #[test]
    fn zero_is_no_valid_value() {
        let figure = Figure::new("it", "us").contender(FLOOR, || Ok(0.0));

        assert!(run(figure, rounds(1)).is_err());
    }

    #[test]
    fn slow_figure_limits_its_rounds() {
        let mut once = Some(1.0);
        let figure = Figure::new("it", "s")
            .with_max_rounds(rounds(1))
            .contender(FLOOR, move || once.take().context("measured twice"));

        assert!(run(figure, rounds(7)).is_ok());
    }

    #[test]
    fn median_of_even_count_is_mean_of_middle_values() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
