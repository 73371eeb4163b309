//! No process or file of a process tree remains after its master has ended, in any way.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rpc_parallel_tests::process::{ends_within, is_gone, kill};
use rpc_parallel_tests::process_tree::{End, LIMIT, ProcessTree, describe};
use rpc_parallel_tests::program::Program;

/// Starts a master without waiting for its workers.
fn start(behavior: &str, generations: usize) -> ProcessTree {
    let mut command = Command::new(env!("CARGO_BIN_EXE_left_behind"));
    ProcessTree::start(command.args([behavior, &generations.to_string()]), behavior)
}

/// Starts a master and waits until this many generations of workers are busy.
fn start_and_wait(behavior: &str, generations: usize) -> ProcessTree {
    let mut tree = start(behavior, generations);
    tree.become_ready(generations);
    tree
}

/// Ends masters in every way while two generations of their workers do this.
fn assert_leaves_nothing(behavior: &str) {
    for end in End::ALL {
        let tree = start_and_wait(behavior, 2);
        assert!(tree.workers[..2].iter().all(|it| !is_gone(*it)), "the workers run");

        let output = tree.end(end);

        let expected = match end {
            End::Return => Some(0),
            End::Panic => Some(101),
            End::Exit => Some(3),
            End::Abort | End::Kill => None,
        };
        assert_eq!(output.status.code(), expected, "{behavior}, {end:?}: {output:?}");
    }
}

#[test]
fn idle_workers_end_with_master() {
    assert_leaves_nothing("idle");
}

#[test]
fn workers_without_connections_end_with_master() {
    assert_leaves_nothing("started");
}

#[test]
fn computing_workers_end_with_master() {
    assert_leaves_nothing("computing");
}

#[test]
fn sleeping_workers_end_with_master() {
    assert_leaves_nothing("sleeping");
}

#[test]
fn workers_blocked_in_system_call_end_with_master() {
    assert_leaves_nothing("reading");
}

#[test]
fn workers_with_busy_pipes_end_with_master() {
    assert_leaves_nothing("streaming");
}

#[test]
fn workers_waiting_in_init_end_with_master() {
    assert_leaves_nothing("waiting-in-init");
}

#[test]
fn workers_computing_in_init_end_with_master() {
    assert_leaves_nothing("computing-in-init");
}

#[test]
fn workers_blocked_in_init_end_with_master() {
    assert_leaves_nothing("reading-in-init");
}

#[test]
fn detached_workers_in_init_end_with_master() {
    assert_leaves_nothing("detached-in-init");
}

#[test]
fn workers_starting_workers_end_with_master() {
    assert_leaves_nothing("spawning");
}

#[test]
fn listening_workers_end_with_master() {
    assert_leaves_nothing("listening");
}

#[test]
fn workers_of_listening_master_end_with_it() {
    assert_leaves_nothing("serving");
}

#[test]
fn workers_with_pending_on_shutdown_end_with_killed_master() {
    for end in [End::Abort, End::Kill] {
        start_and_wait("pending-on-shutdown", 3).end(end);
    }
}

fn assert_ten_generations_end(behavior: &str) {
    for end in [End::Return, End::Abort, End::Kill] {
        let tree = start_and_wait(behavior, 10);
        assert!(tree.workers.len() >= 10);

        tree.end(end);
    }
}

#[test]
fn ten_idle_generations_end_with_first_master() {
    assert_ten_generations_end("idle");
}

#[test]
fn ten_computing_generations_end_with_first_master() {
    assert_ten_generations_end("computing");
}

#[test]
fn ten_generations_blocked_in_system_call_end_with_first_master() {
    assert_ten_generations_end("reading");
}

#[test]
fn master_killed_while_starting_workers_leaves_nothing() {
    for moment in 0..40 {
        let mut tree = start("spawning", 1);
        while tree.workers.is_empty() {
            tree.line();
        }

        // The first worker starts others, each of which takes a few milliseconds.
        thread::sleep(Duration::from_micros(250) * moment);

        tree.end(End::Kill);
    }
}

#[test]
fn master_killed_before_first_worker_leaves_nothing() {
    for moment in 0..20 {
        let tree = start("idle", 3);

        thread::sleep(Duration::from_micros(500) * moment);

        tree.end(End::Kill);
    }
}

#[test]
fn killed_worker_ends_only_generations_below_it() {
    for behavior in ["idle", "computing", "reading"] {
        let tree = start_and_wait(behavior, 6);
        let (above, below) = tree.workers.split_at(2);
        let [middle, below @ ..] = below else { panic!("{:?}", tree.workers) };

        let killed = Instant::now();
        kill(*middle);

        for pid in below {
            let left = LIMIT.saturating_sub(killed.elapsed());
            assert!(ends_within(*pid, left), "{behavior}: {}", describe(*pid));
        }
        assert!(above.iter().all(|it| !is_gone(*it)), "their masters run");
        assert!(!is_gone(tree.master.pid()));
        tree.end(End::Return);
    }
}

#[test]
fn master_that_adopts_orphans_reaps_those_of_its_workers() {
    let output = Program::run(&mut Command::new(env!("CARGO_BIN_EXE_subreaper")));

    let [orphan, own] = &output.stdout[..] else { panic!("{output:?}") };
    assert!(orphan.starts_with("orphan ") && orphan.ends_with(" reaped"), "{output:?}");
    assert_eq!(own, "own child exited with Some(0)", "the program reaps its own children");
}
