//! Items per second of two workers.

use std::num::NonZeroUsize;

use crate::contenders::floor::items::FloorRunner;
use crate::contenders::rayon::RayonRunner;
use crate::contenders::rpc_parallel::maps::runner::{Mode, RpcParallelRunner};
use crate::figure::{FLOOR, Figure, RAYON, RPC_PARALLEL};
use crate::items::Workload;

const TINY: Workload = Workload::uniform(1_000_000, 0);
/// One item in 100 takes 100 times longer.
const SKEW: Workload =
    Workload { count: 5_000, short: 100, long: 10_000, is_long: is_one_in_a_hundred };
/// Items that do nothing are followed by items of 50 ms.
const PHASE: Workload =
    Workload { count: 100_200, short: 0, long: 50_000, is_long: |index| index >= 100_000 };
/// A contender takes 5 s.
const MAX_ROUNDS_OF_PHASE: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

pub(super) fn figures() -> Vec<Figure> {
    vec![
        million_items("map.tiny", Mode::Process),
        million_items("map.tiny_constant", Mode::Constant),
        million_items("map.tiny_next", Mode::Next),
        items("map.items_1ms", Workload::uniform(2_000, 1_000), Mode::Process),
        items("map.items_10us", Workload::uniform(100_000, 10), Mode::Process),
        items("map.skew", SKEW, Mode::Process),
        items("map.phase", PHASE, Mode::Process).with_max_rounds(MAX_ROUNDS_OF_PHASE),
        items("map.phase_unknown", PHASE, Mode::UnknownLength).with_max_rounds(MAX_ROUNDS_OF_PHASE),
    ]
}

fn million_items(name: &'static str, mode: Mode) -> Figure {
    figure(Figure::new(name, "M items/s"), TINY, mode, 1e6)
}

fn items(name: &'static str, workload: Workload, mode: Mode) -> Figure {
    figure(Figure::new(name, "items/s"), workload, mode, 1.0)
}

fn figure(figure: Figure, workload: Workload, mode: Mode, per: f64) -> Figure {
    figure
        .item_runner::<FloorRunner>(FLOOR, (), workload, per)
        .item_runner::<RpcParallelRunner>(RPC_PARALLEL, mode, workload, per)
        .item_runner::<RayonRunner>(RAYON, (), workload, per)
}

/// Selects one index at an irregular place in each hundred.
fn is_one_in_a_hundred(index: u64) -> bool {
    let hundred = index / 100;
    let mixed = hundred.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    index % 100 == mixed % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_in_a_hundred_is_long() {
        let [(_, short), (_, long)] = SKEW.items().rounds_and_counts();

        assert_eq!((short, long), (4_950, 50));
    }
}
