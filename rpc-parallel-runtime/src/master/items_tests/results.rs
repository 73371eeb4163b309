//! The results of items: their order, their latency, and the answers for items without a result.

use std::fs;
use std::time::{Duration, Instant};

use super::fixture::{Directory, batch, encode, map_with_window, panic_message, request, start};
use super::items_worker::Even;
use crate::connection::AnyError;
use crate::wire::Refusal;
use crate::worker::items::{Batch, Record};

#[rpc_parallel::test(crate = crate)]
async fn synchronous_items_give_exact_results_in_order() {
    let fixture = start().await;
    let mut session = fixture.map("double");
    let numbers: Vec<u64> = (0..100_000).collect();

    let one = session.send(&numbers[..99_000]).await;
    let two = session.send(&numbers[99_000..]).await;

    assert_eq!(session.read_finished(one).await, 99_000);
    assert_eq!(session.read_finished(two).await, 1000);
    let results = [session.results::<u64>(one), session.results::<u64>(two)].concat();
    let results: Vec<u64> = results.into_iter().map(|(_, it)| it).collect();
    assert_eq!(results, numbers.iter().map(|it| it * 2).collect::<Vec<_>>());
    session.end().await.expect("the session ends");
}

#[rpc_parallel::test(crate = crate)]
async fn results_of_zero_width_are_counted() {
    let fixture = start().await;
    let mut session = fixture.map("nothing");

    let id = session.send(&[1_u64; 50_000]).await;

    assert_eq!(session.read_finished(id).await, 50_000);
    assert_eq!(session.results::<()>(id).len(), 50_000);
}

#[rpc_parallel::test(crate = crate)]
async fn more_results_than_window_wait_and_arrive() {
    let fixture = start().await;
    let mut session = map_with_window(&fixture.client, &request("bytes"), 10_000);

    let lens: Vec<usize> = (0..300).map(|it| it * 100).collect();
    let id = session.send(&lens).await;

    assert_eq!(session.read_finished(id).await, 300);
    let results = session.results::<Vec<u8>>(id);
    assert_eq!(results.iter().map(|it| it.1.len()).collect::<Vec<_>>(), lens);
}

#[rpc_parallel::test(crate = crate)]
async fn result_behind_slow_item_arrives_within_15_ms() {
    let (fixture, directory) = (start().await, Directory::new());
    let mut session = fixture.map("block_until");
    let mut fastest = Duration::MAX;

    // The machine may be busy, so the fastest of several counts.
    for turn in 0..5 {
        let gate = directory.file(&turn.to_string());
        let sent = Instant::now();
        let id = session.send(&[None, Some(gate.clone())]).await;
        let first = |it: &Record| matches!(it, Record::Results { batch, .. } if *batch == id);
        session.read_until(first).await;
        fastest = fastest.min(sent.elapsed());
        assert_eq!(session.results::<bool>(id), [(0, false)]);
        fs::write(gate, "").expect("open the gate");
        assert_eq!(session.read_finished(id).await, 2);
    }

    assert!(fastest <= Duration::from_millis(15), "{fastest:?}");
}

#[rpc_parallel::test(crate = crate)]
async fn item_without_result_is_answered_and_next_ones_run() {
    let fixture = start().await;
    let mut session = fixture.map("check");

    let id = session.send::<u64>(&[9, 10, 11, 13, 14, 20, 13]).await;

    assert_eq!(session.read_finished(id).await, 7);
    assert_eq!(session.results::<u64>(id), [(0, 9), (2, 11), (4, 14)]);
    let failures: Vec<(u32, String)> =
        session.failures::<AnyError>().iter().map(|(at, it)| (*at, it.to_string())).collect();
    assert_eq!(failures, [(1, "10".to_owned()), (5, "20".to_owned())]);
    let panics: Vec<_> = session.refusals().into_iter().map(panic_message).collect();
    assert_eq!(panics, [(3, "number 13".to_owned()), (6, "number 13".to_owned())]);
}

#[rpc_parallel::test(crate = crate)]
async fn undecodable_item_is_refused_and_next_ones_run() {
    let fixture = start().await;
    let mut session = fixture.map("half");

    // The types of items that are no numbers are not checked: these are encoded as text.
    let texts = ["text".to_owned(), String::new()];
    let items = [encode(&[Even(4), Even(7)]), encode(&texts), encode(&[Even(8)])].concat();
    let id = session.send_batch(Batch { end: 5, items: items.into(), ..batch::<u64>(&[]) }).await;

    assert_eq!(session.read_finished(id).await, 5);
    assert_eq!(session.results::<u64>(id), [(0, 2), (4, 4)]);
    let refused: Vec<_> = session.refusals();
    assert_eq!(refused.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3]);
    let Refusal::Undecodable { why } = &refused[0].1 else { panic!("{}", refused[0].1) };
    assert!(why.contains("7 is odd"), "{why}");
}

#[rpc_parallel::test(crate = crate)]
async fn result_that_cannot_be_sent_is_refused() {
    let fixture = start().await;
    let max = fixture.worker.settings().max_message_size();
    let (mut panicking, mut large, mut pipes) =
        (fixture.map("unencodable"), fixture.map("bytes"), fixture.map("pipe"));

    let ids = [
        panicking.send::<u64>(&[1]).await,
        large.send::<u64>(&[10, max as u64, 70_000]).await,
        pipes.send::<u64>(&[1]).await,
    ];

    panicking.read_finished(ids[0]).await;
    assert_eq!(panic_message(panicking.refusals().remove(0)).1, "encoding panics");
    large.read_finished(ids[1]).await;
    let lens: Vec<_> =
        large.results::<Vec<u8>>(ids[1]).iter().map(|(at, it)| (*at, it.len())).collect();
    assert_eq!(lens, [(0, 10), (2, 70_000)]);
    assert!(matches!(large.refusals()[..], [(1, Refusal::TooLarge { .. })]));
    pipes.read_finished(ids[2]).await;
    let Refusal::Unencodable { why } = pipes.refusals().remove(0).1 else { panic!("it is sent") };
    assert!(why.contains("a pipe can be sent only in"), "{why}");
}
