//! Clients that close their connection while frames are queued.

use std::time::Duration;

use tokio::time::Instant;

use super::peer::{Peer, accept_as_worker, kind};
use super::{join, settle, soon};
use crate::connection::client::Client;
use crate::connection::scripted::{call, function};
use crate::connection::{Call, CallErrorKind};
use crate::wire::FunctionInfo;

const NOTE: &FunctionInfo = &function("note").one_way();
const WAIT: &FunctionInfo = &function("wait");

/// A message of 900 kB.
fn note(client: &Client) -> Call<()> {
    call(client, NOTE, vec![7_u8; 900_000])
}

/// Connects a client to a peer that reads nothing, and queues more than the transport holds.
async fn with_queued_messages() -> (Peer, Client, Call<u64>) {
    let (peer, client) = accept_as_worker().await;
    for _ in 0..8 {
        tokio::spawn(note(&client));
    }
    let mut pending = call::<_, u64>(&client, WAIT, ());
    tokio::select! {
        biased;
        _ = &mut pending => panic!("the peer does not answer"),
        () = settle() => {}
    }
    (peer, client, pending)
}

#[tokio::test(start_paused = true)]
async fn close_with_full_transport_takes_effect_at_once() {
    let (_peer, client, pending) = with_queued_messages().await;
    let began = Instant::now();

    client.close();

    let failed = soon("the pending call", pending).await.expect_err("the connection is closed");
    assert!(matches!(failed.kind(), CallErrorKind::ConnectionClosed), "{failed}");
    assert!(client.is_closed());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn closed_connection_ends_when_peer_reads_nothing_for_30_s() {
    let (mut peer, client, _pending) = with_queued_messages().await;
    let began = Instant::now();

    client.close();

    soon("the end of the connection", client.closed()).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    // The peer gets what the transport has accepted, and then the end.
    while soon("a frame", peer.receive()).await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn closed_connection_waits_for_peer_that_reads_slowly() {
    let (mut peer, client, _pending) = with_queued_messages().await;

    client.close();

    let reading = tokio::spawn(async move {
        let mut fragments = 0;
        while let Some(frame) = peer.receive().await {
            fragments += u32::from([kind::BEGIN, kind::FRAGMENT].contains(&frame[0]));
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        fragments
    });
    soon("the end of the connection", client.closed()).await;
    let fragments = join("the peer", reading).await;
    assert!(fragments >= 8 * (900_000 / (64 * 1024)), "{fragments} fragments were written");
}
