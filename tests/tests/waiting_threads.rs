//! Threads outside of async code that wait for calls of one client.

use std::thread;
use std::time::Duration;

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;
use rpc_parallel::{BusyPoll, Settings};
use rpc_parallel_tests::process::TEST_TIMEOUT;

#[rpc_parallel::worker]
trait Answers {
    fn echo(&self, x: u64) -> u64;
    fn count(&self, to: u64) -> Pipe<u64>;
    fn exit(&self);
    async fn never(&self);
}

#[derive(Default, WorkerState)]
struct AnswersWorker;

#[rpc_parallel::worker]
impl Answers for AnswersWorker {
    fn echo(&self, x: u64) -> u64 {
        x
    }

    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    fn exit(&self) {
        std::process::exit(3)
    }

    async fn never(&self) {
        std::future::pending::<()>().await;
    }
}

/// Starts a worker whose master looks for each answer for as long as `busy_poll` says.
fn start(busy_poll: BusyPoll) -> AnswersClient {
    let settings = Settings::default().with_busy_poll(busy_poll);
    let spawned = AnswersWorker::spawner().settings(settings).spawn(());
    spawned.wait().expect("the worker starts")
}

const SETTINGS: [BusyPoll; 3] =
    [BusyPoll::Never, BusyPoll::Auto, BusyPoll::For(Duration::from_secs(1))];

#[rpc_parallel::test]
fn threads_that_share_client_get_their_answers() {
    for busy_poll in [BusyPoll::Never, BusyPoll::Auto] {
        let client = start(busy_poll);

        thread::scope(|scope| {
            for thread in 0..4 {
                let client = &client;
                scope.spawn(move || {
                    for x in (0..500).map(|it| it * 4 + thread) {
                        let answer = client.echo(x).timeout(TEST_TIMEOUT).wait();
                        assert_eq!(answer.expect("the call succeeds"), x);
                    }
                });
            }
            let mut elements = client.count(100_000).wait().expect("the call succeeds");
            let mut expected = 0;
            while let Some(element) = elements.next().wait() {
                assert_eq!(element.expect("the pipe is complete"), expected);
                expected += 1;
            }
            assert_eq!(expected, 100_000);
        });
    }
}

#[rpc_parallel::test]
fn thread_that_waits_learns_of_worker_death() {
    for busy_poll in SETTINGS {
        let error = start(busy_poll).exit().wait().expect_err("the worker exits");

        assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{busy_poll}: {error}");
    }
}

#[rpc_parallel::test]
fn thread_that_waits_stops_at_timeout() {
    for busy_poll in [BusyPoll::Never, BusyPoll::Auto, BusyPoll::For(Duration::from_millis(50))] {
        let client = start(busy_poll);
        let call = client.never().timeout(Duration::from_millis(10));

        let error = call.wait().expect_err("the function never returns");

        assert!(matches!(error.kind(), CallErrorKind::TimedOut { .. }), "{busy_poll}: {error}");
    }
}
