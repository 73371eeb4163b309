//! Large messages arrive whole, and let small ones pass.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{join_all, poll_fn};
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, TooLarge};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{PATIENCE, kill};
use rpc_parallel_tests::waiting::{elements, soon};
use serde::{Deserialize, Serialize};
use tokio::join;

/// Carries what it is given.
#[rpc_parallel::worker]
trait Carriers {
    fn bytes(&self, bytes: Bytes) -> Bytes;
    fn bytes_by_reference(&self, bytes: &Bytes) -> Bytes;
    fn vec(&self, bytes: Vec<u8>) -> Vec<u8>;
    async fn slice(&self, bytes: &[u8]) -> Vec<u8>;
    fn array(&self, bytes: [u8; 32]) -> [u8; 32];
    fn array_by_reference(&self, bytes: &[u8; 7]) -> [u8; 7];
    fn between(&self, before: u8, bytes: Bytes, between: &str, more: &[u8], after: u8) -> String;
    fn inside(&self, load: Load) -> Load;
    fn take(&self, bytes: &[u8]) -> usize;
    fn give(&self, count: usize) -> Bytes;
    fn stream(&self, size: usize, count: usize) -> Pipe<Bytes>;
    async fn total(&self, parts: Pipe<Bytes>) -> Result<usize, AnyError>;
    fn largest(&self) -> usize;
    fn pid(&self) -> u32;
}

/// Bytes with something beside them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Load {
    name: String,
    bytes: Bytes,
    numbers: Vec<u32>,
}

#[derive(Default, WorkerState)]
struct Carrier {
    largest: AtomicUsize,
}

#[rpc_parallel::worker]
impl Carriers for Carrier {
    fn bytes(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    fn bytes_by_reference(&self, bytes: &Bytes) -> Bytes {
        bytes.clone()
    }

    fn vec(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn slice(&self, bytes: &[u8]) -> Vec<u8> {
        tokio::task::yield_now().await;
        bytes.to_vec()
    }

    fn array(&self, bytes: [u8; 32]) -> [u8; 32] {
        bytes
    }

    fn array_by_reference(&self, bytes: &[u8; 7]) -> [u8; 7] {
        *bytes
    }

    fn between(&self, before: u8, bytes: Bytes, between: &str, more: &[u8], after: u8) -> String {
        format!("{before} {} {between} {} {after}", bytes.len(), more.len())
    }

    fn inside(&self, load: Load) -> Load {
        load
    }

    fn take(&self, bytes: &[u8]) -> usize {
        self.largest.fetch_max(bytes.len(), Ordering::SeqCst);
        bytes.len()
    }

    fn give(&self, count: usize) -> Bytes {
        pattern(count).into()
    }

    fn stream(&self, size: usize, count: usize) -> Pipe<Bytes> {
        let bytes = Bytes::from(pattern(size));
        Pipe::from_items((0..count).map(move |_| bytes.clone()))
    }

    async fn total(&self, mut parts: Pipe<Bytes>) -> Result<usize, AnyError> {
        let mut total = 0;
        while let Some(part) = parts.next().await {
            total += part?.len();
        }
        Ok(total)
    }

    fn largest(&self) -> usize {
        self.largest.load(Ordering::SeqCst)
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// So many bytes, of which no two pages are alike.
fn pattern(count: usize) -> Vec<u8> {
    let mut page: [u8; 4096] = std::array::from_fn(|it| (it * 7) as u8 ^ (it >> 8) as u8);
    let mut bytes = Vec::with_capacity(count + page.len());
    for number in 0..count.div_ceil(page.len()) as u64 {
        page[..8].copy_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&page);
    }
    bytes.truncate(count);
    bytes
}

/// Sizes about which something changes: how a length is written, how much is read or sent at once.
fn sizes() -> impl Iterator<Item = usize> {
    let about = |it: usize| it.saturating_sub(40)..it + 4;
    let bounds = [0, 32, 256, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB];
    bounds.into_iter().flat_map(about).chain([MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
}

async fn start() -> CarriersClient {
    Carrier::spawn(()).await.expect("start a worker")
}

/// Sends bytes of many sizes, and expects them back.
async fn assert_round_trips<T>(carry: impl AsyncFn(&CarriersClient, &[u8]) -> Result<T, CallError>)
where
    T: AsRef<[u8]>,
{
    let carrier = start().await;
    let all = pattern(3 * MIB + 7);
    for size in sizes() {
        let sent = &all[all.len() - size..];
        let received = carry(&carrier, sent).await.expect("call it");
        assert!(received.as_ref() == sent, "{size} bytes come back as they went");
    }
}

#[rpc_parallel::test]
async fn bytes_of_any_size_arrive() {
    assert_round_trips(async |it, bytes| it.bytes(Bytes::copy_from_slice(bytes)).await).await;
}

#[rpc_parallel::test]
async fn bytes_by_reference_arrive() {
    let bytes = async |it: &CarriersClient, bytes: &[u8]| {
        it.bytes_by_reference(&Bytes::copy_from_slice(bytes)).await
    };
    assert_round_trips(bytes).await;
}

#[rpc_parallel::test]
async fn vectors_of_bytes_of_any_size_arrive() {
    assert_round_trips(async |it, bytes| it.vec(bytes.to_vec()).await).await;
}

#[rpc_parallel::test]
async fn slices_of_bytes_of_any_size_arrive() {
    assert_round_trips(async |it, bytes| it.slice(bytes).await).await;
}

#[rpc_parallel::test]
async fn arrays_of_bytes_arrive() {
    let carrier = start().await;
    let array = std::array::from_fn(|it| it as u8 * 8);

    assert_eq!(carrier.array(array).await, Ok(array));
    assert_eq!(carrier.array_by_reference(&[255; 7]).await, Ok([255; 7]));
}

#[rpc_parallel::test]
async fn bytes_between_other_arguments_arrive_in_their_places() {
    let carrier = start().await;

    for size in [0, 100, 100 * KIB, MIB] {
        let bytes = Bytes::from(pattern(size));
        let more = pattern(2 * size);
        let said = carrier.between(1, bytes, "and", &more, 2).await;
        assert_eq!(said, Ok(format!("1 {size} and {} 2", 2 * size)));
    }
}

#[rpc_parallel::test]
async fn large_values_that_are_no_bytes_arrive() {
    let carrier = start().await;
    let numbers = (0..1_000_000).map(|it: u32| it.wrapping_mul(0x9e37_79b9)).collect();
    let load = Load { name: "x".repeat(MIB), bytes: pattern(MIB).into(), numbers };

    let returned = soon(carrier.inside(load.clone())).await;

    assert!(returned == Ok(load));
}

#[rpc_parallel::test]
async fn bytes_that_arrived_travel_on() {
    let carrier = start().await;
    let given = carrier.give(MIB + 1).await.expect("call it");

    let returned = carrier.bytes(given.slice(1..)).await.expect("call it");

    assert!(returned == given[1..]);
}

#[rpc_parallel::test]
async fn many_large_messages_travel_at_once_and_none_is_mixed_up() {
    let carrier = start().await;
    let all = pattern(8 * MIB);
    let part = |number: usize| &all[number * MIB / 2..][..4 * MIB + number];

    let vectors = join_all((0..4).map(|it| carrier.vec(part(it).to_vec())));
    let slices = join_all((4..8).map(|it| carrier.slice(part(it))));
    let (vectors, slices) = soon(async { join!(vectors, slices) }).await;

    for (returned, number) in vectors.into_iter().chain(slices).zip(0..) {
        assert!(returned.expect("call it") == part(number), "{number}");
    }
}

/// Makes small calls until a large one is done, and returns how many were answered before.
async fn small_calls_during<T>(
    carrier: &CarriersClient,
    large: impl Future<Output = T> + Unpin,
) -> (usize, T) {
    let mut large = large.fuse();
    let mut small = 0;
    // Begun: what follows comes after it.
    assert!(poll_fn(|cx| std::task::Poll::Ready(large.poll_unpin(cx).is_pending())).await);
    loop {
        tokio::select! {
            biased;
            done = &mut large => return (small, done),
            answered = carrier.pid().timeout(PATIENCE) => {
                answered.expect("small calls are not held up");
                small += 1;
            }
        }
    }
}

const LARGE: usize = 32 * MIB;

#[rpc_parallel::test]
async fn small_calls_pass_a_large_argument() {
    let carrier = start().await;
    let bytes = pattern(LARGE);

    let (small, taken) = small_calls_during(&carrier, carrier.take(&bytes)).await;

    assert_eq!(taken, Ok(LARGE));
    assert!(small >= 3, "{small} small calls were answered meanwhile");
}

#[rpc_parallel::test]
async fn small_calls_pass_a_large_result() {
    let carrier = start().await;

    let (small, given) = small_calls_during(&carrier, carrier.give(LARGE)).await;

    assert!(given == Ok(pattern(LARGE).into()));
    assert!(small >= 3, "{small} small calls were answered meanwhile");
}

#[rpc_parallel::test]
async fn small_calls_pass_large_elements_both_ways() {
    let carrier = start().await;
    let bytes = Bytes::from(pattern(8 * MIB));

    let pipe = carrier.stream(8 * MIB, 4).await.expect("call it");
    let (small, read) = small_calls_during(&carrier, Box::pin(elements(pipe))).await;
    let parts = Pipe::from_items((0..4).map({
        let bytes = bytes.clone();
        move |_| bytes.clone()
    }));
    let (passed, total) = small_calls_during(&carrier, carrier.total(parts)).await;

    assert!(read.len() == 4 && read.iter().all(|it| *it == bytes));
    assert_eq!(total, Ok(LARGE));
    assert!(small >= 3 && passed >= 3, "{small} and {passed} were answered meanwhile");
}

#[rpc_parallel::test]
async fn a_large_call_that_is_dropped_halfway_leaves_the_connection_usable() {
    let carrier = start().await;
    let bytes = pattern(LARGE);

    for _ in 0..5 {
        let mut large = carrier.take(&bytes);
        assert!((&mut large).now_or_never().is_none());
        carrier.pid().timeout(PATIENCE).await.expect("call it");
        drop(large);
        assert_eq!(carrier.take(&bytes[..MIB]).timeout(PATIENCE).await, Ok(MIB));
    }

    assert_eq!(soon(carrier.take(&bytes)).await, Ok(LARGE));
}

#[rpc_parallel::test]
async fn a_large_result_that_nobody_wants_leaves_the_connection_usable() {
    let carrier = start().await;

    for _ in 0..5 {
        let mut large = carrier.give(LARGE);
        assert!((&mut large).now_or_never().is_none());
        carrier.pid().timeout(PATIENCE).await.expect("call it");
        drop(large);
    }

    assert!(soon(carrier.give(MIB)).await == Ok(pattern(MIB).into()));
}

#[rpc_parallel::test]
async fn a_worker_that_dies_under_a_large_message_is_a_death_like_others() {
    let carrier = start().await;
    let pid = carrier.pid().await.expect("call it");
    let bytes = pattern(LARGE);
    let mut large = [carrier.slice(&bytes), carrier.slice(&bytes)];

    assert!(large.iter_mut().all(|it| it.now_or_never().is_none()));
    kill(pid);

    for died in soon(join_all(large)).await {
        let error = died.expect_err("it died");
        assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    }
}

#[rpc_parallel::test]
async fn the_largest_message_is_exact_also_for_what_travels_in_pieces() {
    let limit = 3 * MIB;
    let settings = Settings::default().with_max_message_size(limit);
    let spawner = Carrier::spawner().settings(settings);
    let carrier = spawner.spawn(()).await.expect("start a worker");

    // That it is one argument, and the number of its bytes, take six bytes; in a result five.
    let largest = carrier.take(&vec![7; limit - 6]).await;
    let refused = carrier.take(&vec![7; limit - 5]).await.expect_err("it is too large");
    let given = carrier.give(limit - 5).await;
    let kept = carrier.give(limit - 4).await.expect_err("it is too large");

    let too_large = TooLarge { size: limit + 1, max: limit };
    assert_eq!(largest, Ok(limit - 6));
    assert_eq!(
        *refused.kind(),
        CallErrorKind::TooLarge { side: MessageKind::Arguments, too_large }
    );
    assert!(given.is_ok_and(|it| it.len() == limit - 5));
    assert_eq!(*kept.kind(), CallErrorKind::TooLarge { side: MessageKind::Result, too_large });
    assert_eq!(carrier.largest().await, Ok(limit - 6));
}
