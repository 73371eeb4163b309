//! The sum of a million squares, on all cores, with rayon.

use rayon::prelude::*;

fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    let sum: u64 = (0..1_000_000_u64).into_par_iter().map(square).sum();
    println!("{sum}");
}
