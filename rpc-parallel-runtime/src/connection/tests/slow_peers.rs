//! Peers that send or read one byte per second: they delay nobody but themselves.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::peer::{Peer, call, connect_as_caller, connect_as_caller_over, kind};
use super::{connected, join, settings, soon};
use crate::connection::scripted::{self, Functions, function};
use crate::wire::FunctionInfo;

const ECHO: &FunctionInfo = &function("echo");

/// The encoding of the argument 7, and of its echo.
const ARGUMENT: &[u8] = &[7];

fn functions() -> Functions {
    Functions::default().with(ECHO, async |x: u64| x)
}

/// Receives one byte per second, until a frame is complete.
async fn receive_slowly(peer: &mut Peer) -> Option<Vec<u8>> {
    loop {
        if let Some(frame) = peer.take_frame() {
            return Some(frame);
        }
        sleep(Duration::from_secs(1)).await;
        if peer.read(&mut [0]).await == 0 {
            return None;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_peer_that_sends_slowly_are_answered() {
    let (mut peer, worker, _) = connect_as_caller(functions()).await;

    for id in 1..=3 {
        for byte in call(id, ECHO, ARGUMENT, &[]) {
            peer.send(&[byte]);
            sleep(Duration::from_secs(1)).await;
        }
        let answer = soon("the answer", peer.receive()).await.expect("the connection is open");
        assert_eq!((answer[0], answer.last()), (kind::ANSWER, Some(&7)));
    }

    drop(peer);
    join("the worker", worker).await.expect("a slow peer is no error");
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_slowly_gets_all_answers_and_delays_no_other() {
    let (mut peer, worker, _) = connect_as_caller_over(256, settings(), functions()).await;
    let other = connected(256, functions()).await;
    for id in 1..=100 {
        while !peer.try_send(&call(id, ECHO, ARGUMENT, &[])) {
            sleep(Duration::from_secs(1)).await;
        }
    }

    let began = Instant::now();
    let echo = scripted::call::<_, u64>(&other.client, ECHO, 7_u64);
    assert_eq!(soon("the other peer", echo).await.expect("the call succeeds"), 7);
    assert_eq!(began.elapsed(), Duration::ZERO);

    for _ in 1..=100 {
        let answer = soon("an answer", receive_slowly(&mut peer)).await;
        assert_eq!(answer.map(|it| it[0]), Some(kind::ANSWER));
    }
    drop(peer);
    join("the worker", worker).await.expect("a slow peer is no error");
}
