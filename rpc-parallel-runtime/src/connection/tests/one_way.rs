//! One-way calls.

use std::sync::{Arc, Mutex};

use super::peer::{call, one_way, play_caller};
use super::{connected, settle, soon};
use crate::connection::Call;
use crate::connection::client::Client;
use crate::connection::scripted::{self, Functions, function};
use crate::wire::FunctionInfo;

const NOTE: &FunctionInfo = &function("note").one_way();
const QUICK: &FunctionInfo = &function("quick");

/// The first byte of every note, in the order in which they came.
type Notes = Arc<Mutex<Vec<u8>>>;

fn notebook() -> (Functions, Notes) {
    let notes = Notes::default();
    let (noting, looking) = (notes.clone(), notes.clone());
    let functions = Functions::default()
        .with(NOTE, move |note: Vec<u8>| {
            noting.lock().expect("nobody panics").push(note[0]);
            async {}
        })
        .with(QUICK, move |(): ()| {
            let noted = looking.lock().expect("nobody panics").len();
            async move { noted }
        });
    (functions, notes)
}

fn note(client: &Client, first: u8, len: usize) -> Call<()> {
    let mut note = vec![0; len];
    note[0] = first;
    scripted::call(client, NOTE, note)
}

#[tokio::test(start_paused = true)]
async fn one_way_calls_begin_in_the_order_in_which_they_were_sent_also_behind_a_large_one() {
    let (functions, notes) = notebook();
    let connected = connected(100, functions).await;
    let client = connected.client.clone();

    let calls = [1, 700_000, 1, 200_000, 300_000, 1].into_iter().enumerate();
    let calls: Vec<_> = calls.map(|(at, len)| tokio::spawn(note(&client, at as u8, len))).collect();
    for call in calls {
        soon("a one-way call", call).await.expect("nothing panics").expect("it is sent");
    }
    settle().await;

    assert_eq!(*notes.lock().expect("nobody panics"), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_call_overtakes_a_large_one_way_call() {
    let (functions, _) = notebook();
    let connected = connected(100, functions).await;
    let large = tokio::spawn(note(&connected.client, 0, 1_000_000));
    tokio::task::yield_now().await;

    let noted = scripted::call::<_, usize>(&connected.client, QUICK, ()).await;

    assert_eq!(noted.expect("it is answered"), 0);
    soon("a large one-way call", large).await.expect("nothing panics").expect("it is sent");
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_says_is_done_although_it_reads_no_answers() {
    let (functions, notes) = notebook();
    let (peer, worker, _) = play_caller(functions).await;
    let quick = call(1, QUICK, &[0xc0], &[]);

    let deaf = peer.read_no_more();
    for note in [7, 8] {
        // The answer cannot be written.
        deaf.try_write(&quick).expect("there is room");
        settle().await;
        deaf.try_write(&one_way(NOTE, &[0x91, note], &[])).expect("there is room");
    }
    drop(deaf);

    soon("the worker", worker).await.expect("nothing panics").expect("nothing is wrong");
    assert_eq!(*notes.lock().expect("nobody panics"), [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_one_way_call_that_was_sent_is_done_although_its_client_is_dropped() {
    let (functions, notes) = notebook();
    let connected = connected(100, functions).await;

    note(&connected.client, 7, 500_000).await.expect("it is sent");
    note(&connected.client, 8, 1).await.expect("it is sent");
    drop(connected.client);

    soon("the worker", connected.worker).await.expect("nothing panics").expect("nothing is wrong");
    assert_eq!(*notes.lock().expect("nobody panics"), [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_one_way_call_to_a_worker_that_is_gone_is_an_error() {
    let (functions, _) = notebook();
    let connected = connected(100, functions).await;
    let large = tokio::spawn(note(&connected.client, 0, 1_000_000));
    tokio::task::yield_now().await;

    connected.worker.abort();

    let sent = soon("a one-way call", large).await.expect("nothing panics");
    assert!(sent.is_err(), "it was not written");
}
