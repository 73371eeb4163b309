//! Values of connections that a thread keeps in its thread-local storage until it exits. Their
//! destructors run after those of the library's own thread-local variables.

use std::any::Any;
use std::cell::RefCell;
use std::thread;

use rpc_parallel::prelude::*;
use rpc_parallel_tests::spawn_ok::SpawnOk as _;
use rpc_parallel_tests::waiting::soon;

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

#[rpc_parallel::worker]
trait Keep {
    /// Keeps the first value, and drops the second one before.
    fn keep_pipe(&self, kept: Pipe<u64>, dropped: Pipe<u64>);
    fn keep_writer(&self, kept: PipeWriter<u64>, dropped: PipeWriter<u64>);
    fn pid(&self) -> u32;
}

#[derive(Default, WorkerState)]
struct Keeper;

#[rpc_parallel::worker]
impl Keep for Keeper {
    fn keep_pipe(&self, kept: Pipe<u64>, dropped: Pipe<u64>) {
        exit_thread_with(kept, dropped);
    }

    fn keep_writer(&self, kept: PipeWriter<u64>, dropped: PipeWriter<u64>) {
        exit_thread_with(kept, dropped);
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// Runs a thread that keeps a value until it exits.
fn exit_thread_with<T: Send + 'static>(kept: T, dropped: T) {
    let thread = thread::spawn(move || {
        KEPT.with_borrow_mut(|it| it.push(Box::new(kept)));
        // Thread-local variables are dropped in the reverse order of their first use: those that the
        // library uses here are gone when `KEPT` is dropped.
        drop(dropped);
    });
    thread.join().expect("the thread does not panic");
}

#[rpc_parallel::test]
async fn pipe_in_thread_local_of_exiting_thread_is_dropped() {
    let keeper = Keeper::spawn_ok(()).await;
    let pid = keeper.pid().await.expect("the worker answers");
    let [(writer, kept), (_, dropped)] = [Pipe::pair(), Pipe::pair()];

    soon(keeper.keep_pipe(kept, dropped)).await.expect("the worker survives");

    soon(writer.closed()).await;
    assert_eq!(keeper.pid().await, Ok(pid));
}

#[rpc_parallel::test]
async fn writer_in_thread_local_of_exiting_thread_ends_its_pipe() {
    let keeper = Keeper::spawn_ok(()).await;
    let pid = keeper.pid().await.expect("the worker answers");
    let [(kept, mut pipe), (dropped, _)] = [Pipe::pair(), Pipe::pair()];

    soon(keeper.keep_writer(kept, dropped)).await.expect("the worker survives");

    assert!(soon(pipe.next()).await.is_none());
    assert_eq!(keeper.pid().await, Ok(pid));
}
