//! Interleaved rounds: everyone is measured in turn, again and again.
//!
//! Machines drift by the second, so a value alone says little. A ratio is taken within one round,
//! against the floor measured moments before or after, and the median of these ratios is reported.
//! A figure without a floor of its own begins with what the others are compared with.

use std::num::NonZeroUsize;

use anyhow::{Context, ensure};

use crate::figure::{Figure, TARPC};

/// One line of a report: a contender's medians over all rounds.
pub(crate) struct Row {
    pub(crate) figure: &'static str,
    pub(crate) who: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) ratio: f64,
    /// Only where the peer is measured too.
    pub(crate) ratio_to_tarpc: Option<f64>,
}

/// Measures a figure and sums it up.
pub(crate) fn run(mut figure: Figure, rounds: NonZeroUsize) -> anyhow::Result<Vec<Row>> {
    let rounds = rounds.min(figure.most_rounds).get();
    let count = figure.contenders.len();
    let mut values = vec![Vec::with_capacity(rounds); count];
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", figure.name, round + 1);
        for turn in 0..count {
            // Everyone goes first at times: what the one before leaves behind hits all alike.
            let index = (round + turn) % count;
            let contender = &mut figure.contenders[index];
            let value = (contender.measure)()
                .and_then(|it| {
                    ensure!(it.is_finite() && it > 0.0, "measured {it}, which cannot be");
                    Ok(it)
                })
                .with_context(|| format!("measure `{}` of {}", figure.name, contender.who))?;
            values[index].push(value);
        }
    }
    let who: Vec<_> = figure.contenders.into_iter().map(|it| it.who).collect();
    Ok(sum_up(figure.name, figure.unit, &who, &values))
}

fn sum_up(
    figure: &'static str,
    unit: &'static str,
    who: &[String],
    values: &[Vec<f64>],
) -> Vec<Row> {
    let tarpc = who.iter().position(|it| it == TARPC).map(|it| &values[it]);
    who.iter()
        .zip(values)
        .map(|(who, own)| Row {
            figure,
            who: who.clone(),
            unit,
            value: median(own.iter().copied()),
            least: own.iter().copied().fold(f64::INFINITY, f64::min),
            most: own.iter().copied().fold(0.0, f64::max),
            ratio: median_ratio(own, &values[0]),
            ratio_to_tarpc: tarpc.map(|it| median_ratio(own, it)),
        })
        .collect()
}

fn median_ratio(values: &[f64], to: &[f64]) -> f64 {
    median(values.iter().zip(to).map(|(value, to)| value / to))
}

/// The middle value, or the mean of the two in the middle.
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
        NonZeroUsize::new(count).expect("a test has rounds")
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The machine becomes ten times slower in the last rounds.
        let mut floor = [1.0, 2.0, 10.0].into_iter();
        let mut program = [1.5, 3.0, 15.0].into_iter();
        let figure = Figure::new("it", "us")
            .contender(FLOOR, move || floor.next().context("three rounds"))
            .contender(RPC_PARALLEL, move || program.next().context("three rounds"));

        let rows = run(figure, rounds(3)).expect("all measure");

        assert_eq!((rows[0].value, rows[0].ratio), (2.0, 1.0));
        assert_eq!((rows[1].value, rows[1].ratio), (3.0, 1.5));
        assert_eq!((rows[1].least, rows[1].most), (1.5, 15.0));
    }

    #[test]
    fn a_contender_that_fails_fails_the_run() {
        let figure = Figure::new("it", "us")
            .contender(FLOOR, || Ok(1.0))
            .contender(TARPC, || anyhow::bail!("no such socket"));

        let error = run(figure, rounds(1)).err().expect("tarpc fails");

        assert_eq!(format!("{error:#}"), "measure `it` of tarpc: no such socket");
    }

    #[test]
    fn nothing_measures_zero() {
        let figure = Figure::new("it", "us").contender(FLOOR, || Ok(0.0));

        assert!(run(figure, rounds(1)).is_err());
    }

    #[test]
    fn a_slow_figure_limits_its_rounds() {
        let mut once = Some(1.0);
        let figure = Figure::new("it", "s")
            .at_most(rounds(1))
            .contender(FLOOR, move || once.take().context("measured twice"));

        assert!(run(figure, rounds(7)).is_ok());
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
