//! How long a fork takes. Only printed, because it depends on the machine.

use std::hint::black_box;
use std::time::Instant;

use rpc_parallel_os::{Forked, SealedSlice, SignalActions, exit_immediately, fork};

use crate::sibling::reap;

crate::harness::tests! {
    cost_of_forks_is_measured
}

const SIZE: usize = 256 << 20;

/// Returns the median duration of a fork in the parent, in µs.
fn fork_cost() -> u128 {
    let actions = SignalActions::record();
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let began = Instant::now();
            let Forked::Caller(pid) = fork(&actions).expect("fork a child") else {
                exit_immediately(0);
            };
            let time = began.elapsed().as_micros();
            reap(pid);
            time
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn cost_of_forks_is_measured() {
    let nothing = fork_cost();
    let mut sealed = SealedSlice::<u8>::builder(SIZE).expect("there is memory");
    sealed.fill(1);
    let sealed = sealed.seal().expect("nobody else maps it");
    assert!(sealed.iter().all(|it| *it == 1));
    let in_sealed = fork_cost();
    drop(sealed);
    let heap = black_box(vec![1_u8; SIZE]);
    let in_heap = fork_cost();
    drop(heap);

    println!("fork: {nothing} µs; 256 MiB sealed: {in_sealed} µs; 256 MiB of heap: {in_heap} µs");
}
