//! However a master ends, and whatever its workers do then, nothing is left of them.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rpc_parallel_tests::family::{End, Family, LIMIT, describe};
use rpc_parallel_tests::process::{ends_within, is_gone, kill};

/// Starts a master, and waits for nothing.
fn begin(what: &str, generations: usize) -> Family {
    let mut command = Command::new(env!("CARGO_BIN_EXE_left_behind"));
    Family::begin(command.args([what, &generations.to_string()]), what)
}

/// Starts a master and waits until so many generations of workers do what they should.
fn start(what: &str, generations: usize) -> Family {
    let mut family = begin(what, generations);
    family.become_ready(generations);
    family
}

/// Has masters end in every way while their workers do this, in two generations.
fn assert_leaves_nothing(what: &str) {
    for end in End::ALL {
        let family = start(what, 2);
        assert!(family.workers[..2].iter().all(|it| !is_gone(*it)), "they live with their master");

        let ended = family.end(end);

        let expected = match end {
            End::Return => Some(0),
            End::Panic => Some(101),
            End::Exit => Some(3),
            End::Abort | End::Kill => None,
        };
        assert_eq!(ended.status.code(), expected, "{what}, {end:?}: {ended:?}");
    }
}

#[test]
fn workers_that_have_nothing_to_do_end_with_their_master() {
    assert_leaves_nothing("idle");
}

#[test]
fn workers_without_connections_end_with_their_master() {
    assert_leaves_nothing("started");
}

#[test]
fn workers_that_compute_end_with_their_master() {
    assert_leaves_nothing("computing");
}

#[test]
fn workers_that_sleep_end_with_their_master() {
    assert_leaves_nothing("sleeping");
}

#[test]
fn workers_that_are_blocked_in_a_system_call_end_with_their_master() {
    assert_leaves_nothing("reading");
}

#[test]
fn workers_whose_pipes_flow_end_with_their_master() {
    assert_leaves_nothing("streaming");
}

#[test]
fn workers_that_wait_in_their_init_end_with_their_master() {
    assert_leaves_nothing("waiting-in-init");
}

#[test]
fn workers_that_compute_in_their_init_end_with_their_master() {
    assert_leaves_nothing("computing-in-init");
}

#[test]
fn workers_that_are_blocked_in_their_init_end_with_their_master() {
    assert_leaves_nothing("reading-in-init");
}

#[test]
fn workers_that_would_have_outlived_their_master_do_not_if_it_ends_during_their_init() {
    assert_leaves_nothing("detached-in-init");
}

#[test]
fn workers_that_start_workers_end_with_their_master() {
    assert_leaves_nothing("spawning");
}

#[test]
fn workers_that_listen_end_with_their_master() {
    assert_leaves_nothing("listening");
}

#[test]
fn workers_of_a_master_that_listens_end_with_it() {
    assert_leaves_nothing("serving");
}

#[test]
fn workers_that_are_never_done_with_their_end_end_with_a_master_that_was_killed() {
    for end in [End::Abort, End::Kill] {
        start("lingering", 3).end(end);
    }
}

fn assert_ten_generations_end(what: &str) {
    for end in [End::Return, End::Abort, End::Kill] {
        let family = start(what, 10);
        assert!(family.workers.len() >= 10);

        family.end(end);
    }
}

#[test]
fn ten_generations_end_with_the_first_master() {
    assert_ten_generations_end("idle");
}

#[test]
fn ten_generations_that_compute_end_with_the_first_master() {
    assert_ten_generations_end("computing");
}

#[test]
fn ten_generations_that_are_blocked_in_a_system_call_end_with_the_first_master() {
    assert_ten_generations_end("reading");
}

#[test]
fn a_master_may_be_killed_at_any_moment_while_it_starts_workers() {
    for moment in 0..40 {
        let mut family = begin("spawning", 1);
        while family.workers.is_empty() {
            family.line();
        }

        // From the first worker on it starts others, a few milliseconds each.
        thread::sleep(Duration::from_micros(250) * moment);

        family.end(End::Kill);
    }
}

#[test]
fn a_program_may_be_killed_before_it_has_started_a_worker() {
    for moment in 0..20 {
        let family = begin("idle", 3);

        thread::sleep(Duration::from_micros(500) * moment);

        family.end(End::Kill);
    }
}

#[test]
fn a_master_in_the_middle_takes_those_below_along_and_nobody_else() {
    for what in ["idle", "computing", "reading"] {
        let family = start(what, 6);
        let (above, below) = family.workers.split_at(2);
        let [middle, below @ ..] = below else { panic!("{:?}", family.workers) };

        let killed = Instant::now();
        kill(*middle);

        for pid in below {
            let left = LIMIT.saturating_sub(killed.elapsed());
            assert!(ends_within(*pid, left), "{what}: {}", describe(*pid));
        }
        assert!(above.iter().all(|it| !is_gone(*it)), "they have not lost their master");
        assert!(!is_gone(family.master.pid()));
        family.end(End::Return);
    }
}
