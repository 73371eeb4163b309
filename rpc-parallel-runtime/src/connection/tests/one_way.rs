//! One-way calls: their order, and what ends them.

use std::io::IoSlice;
use std::sync::{Arc, Mutex};

use super::peer::{call, connect_as_caller, one_way};
use super::{connected, join, lock, settle};
use crate::connection::Call;
use crate::connection::client::Client;
use crate::connection::scripted::{self, Functions, function};
use crate::wire::FunctionInfo;

/// Records the first byte of its argument.
const NOTE: &FunctionInfo = &function("note").one_way();
/// Returns how many notes have been recorded.
const COUNT: &FunctionInfo = &function("count");

/// The first byte of every note, in the order of the calls that ran.
type Notes = Arc<Mutex<Vec<u8>>>;

fn functions() -> (Functions, Notes) {
    let notes = Notes::default();
    let (of_note, of_count) = (notes.clone(), notes.clone());
    let functions = Functions::default()
        .with(NOTE, move |note: Vec<u8>| {
            lock(&of_note).push(note[0]);
            async {}
        })
        .with(COUNT, move |(): ()| {
            let count = lock(&of_count).len();
            async move { count }
        });
    (functions, notes)
}

fn note(client: &Client, first: u8, len: usize) -> Call<()> {
    let mut note = vec![0; len];
    note[0] = first;
    scripted::call(client, NOTE, note)
}

#[tokio::test(start_paused = true)]
async fn one_way_calls_keep_order_behind_large_ones() {
    let (functions, notes) = functions();
    let connected = connected(100, functions).await;
    let client = connected.client.clone();

    let calls = [1, 700_000, 1, 200_000, 300_000, 1].into_iter().enumerate();
    let calls: Vec<_> = calls.map(|(at, len)| tokio::spawn(note(&client, at as u8, len))).collect();
    for call in calls {
        join("a one-way call", call).await.expect("the one-way call is sent");
    }
    settle().await;

    assert_eq!(*lock(&notes), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn call_overtakes_large_one_way_call() {
    let (functions, _) = functions();
    let connected = connected(100, functions).await;
    let large = tokio::spawn(note(&connected.client, 0, 1_000_000));
    tokio::task::yield_now().await;

    let count = scripted::call::<_, usize>(&connected.client, COUNT, ()).await;

    assert_eq!(count.expect("the call succeeds"), 0);
    join("a large one-way call", large).await.expect("the one-way call is sent");
}

#[tokio::test(start_paused = true)]
async fn one_way_calls_run_although_caller_reads_no_answers() {
    let (functions, notes) = functions();
    let (peer, worker, _) = connect_as_caller(functions).await;
    let count = call(1, COUNT, &[0xc0], &[]);

    let writer = peer.into_writer();
    for note in [7, 8] {
        // The worker fails to write the answer.
        writer.try_write(&[IoSlice::new(&count)]).expect("the transport has room");
        settle().await;
        writer
            .try_write(&[IoSlice::new(&one_way(NOTE, &[0x91, note], &[]))])
            .expect("the transport has room");
    }
    drop(writer);

    join("the worker", worker).await.expect("the connection ends without an error");
    assert_eq!(*lock(&notes), [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn sent_one_way_call_runs_after_client_is_dropped() {
    let (functions, notes) = functions();
    let connected = connected(100, functions).await;

    note(&connected.client, 7, 500_000).await.expect("the one-way call is sent");
    note(&connected.client, 8, 1).await.expect("the one-way call is sent");
    drop(connected.client);

    join("the worker", connected.worker).await.expect("the connection ends without an error");
    assert_eq!(*lock(&notes), [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn unwritten_one_way_call_fails_with_lost_worker() {
    let (functions, _) = functions();
    let connected = connected(100, functions).await;
    let large = tokio::spawn(note(&connected.client, 0, 1_000_000));
    tokio::task::yield_now().await;

    connected.worker.abort();

    let sent = join("a one-way call", large).await;
    assert!(sent.is_err(), "the worker was lost before the call was written");
}
