//! Large messages arrive complete, and small messages overtake them.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{join_all, poll_fn};
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, TooLarge};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::{TEST_TIMEOUT, kill};
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{elements, soon};
use serde::{Deserialize, Serialize};
use tokio::join;

/// Functions with the types that hold bytes; most of them return their argument.
#[rpc_parallel::worker]
trait ByteTypes {
    fn bytes(&self, bytes: Bytes) -> Bytes;
    fn bytes_by_reference(&self, bytes: &Bytes) -> Bytes;
    fn vec(&self, bytes: Vec<u8>) -> Vec<u8>;
    async fn slice(&self, bytes: &[u8]) -> Vec<u8>;
    fn array(&self, bytes: [u8; 32]) -> [u8; 32];
    fn array_by_reference(&self, bytes: &[u8; 7]) -> [u8; 7];
    fn between(&self, before: u8, bytes: Bytes, between: &str, more: &[u8], after: u8) -> String;
    fn record(&self, record: Record) -> Record;
    /// Returns the length of its argument.
    fn length(&self, bytes: &[u8]) -> usize;
    /// Returns the pattern of this length.
    fn pattern(&self, length: usize) -> Bytes;
    /// Returns a pipe of `count` patterns of this length.
    fn patterns(&self, length: usize, count: usize) -> Pipe<Bytes>;
    /// Returns the length of all elements together.
    async fn total_length(&self, elements: Pipe<Bytes>) -> Result<usize, AnyError>;
    /// Returns the largest length that `length` has returned.
    fn largest(&self) -> usize;
    fn pid(&self) -> u32;
}

/// A struct with large fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    bytes: Bytes,
    numbers: Vec<u32>,
}

#[derive(Default, WorkerState)]
struct ByteWorker {
    largest: AtomicUsize,
}

#[rpc_parallel::worker]
impl ByteTypes for ByteWorker {
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

    fn record(&self, record: Record) -> Record {
        record
    }

    fn length(&self, bytes: &[u8]) -> usize {
        self.largest.fetch_max(bytes.len(), Ordering::SeqCst);
        bytes.len()
    }

    fn pattern(&self, length: usize) -> Bytes {
        pattern(length).into()
    }

    fn patterns(&self, length: usize, count: usize) -> Pipe<Bytes> {
        let bytes = Bytes::from(pattern(length));
        Pipe::from_items((0..count).map(move |_| bytes.clone()))
    }

    async fn total_length(&self, mut elements: Pipe<Bytes>) -> Result<usize, AnyError> {
        let mut total = 0;
        while let Some(element) = elements.next().await {
            total += element?.len();
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

/// Returns bytes of which no two pages are equal.
fn pattern(length: usize) -> Vec<u8> {
    let mut page: [u8; 4096] = std::array::from_fn(|it| (it * 7) as u8 ^ (it >> 8) as u8);
    let mut bytes = Vec::with_capacity(length + page.len());
    for number in 0..length.div_ceil(page.len()) as u64 {
        page[..8].copy_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&page);
    }
    bytes.truncate(length);
    bytes
}

/// Returns sizes near the bounds at which the encoding of a length, or the number of bytes that are
/// read or written at once, changes.
fn sizes() -> impl Iterator<Item = usize> {
    let near = |it: usize| it.saturating_sub(40)..it + 4;
    let bounds = [0, 32, 256, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB];
    bounds.into_iter().flat_map(near).chain([MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
}

/// Asserts that a function returns bytes of many sizes unchanged.
async fn assert_round_trips<T>(call: impl AsyncFn(&ByteTypesClient, &[u8]) -> Result<T, CallError>)
where
    T: AsRef<[u8]>,
{
    let worker = ByteWorker::spawn_ok(()).await;
    let all = pattern(3 * MIB + 7);
    for size in sizes() {
        let sent = &all[all.len() - size..];
        let received = call(&worker, sent).await.expect("the call succeeds");
        assert!(received.as_ref() == sent, "{size} bytes changed on their way");
    }
}

#[rpc_parallel::test]
async fn bytes_of_any_size_arrive_unchanged() {
    assert_round_trips(async |it, bytes| it.bytes(Bytes::copy_from_slice(bytes)).await).await;
}

#[rpc_parallel::test]
async fn bytes_by_reference_arrive_unchanged() {
    let call = async |it: &ByteTypesClient, bytes: &[u8]| {
        it.bytes_by_reference(&Bytes::copy_from_slice(bytes)).await
    };
    assert_round_trips(call).await;
}

#[rpc_parallel::test]
async fn byte_vectors_of_any_size_arrive_unchanged() {
    assert_round_trips(async |it, bytes| it.vec(bytes.to_vec()).await).await;
}

#[rpc_parallel::test]
async fn byte_slices_of_any_size_arrive_unchanged() {
    assert_round_trips(async |it, bytes| it.slice(bytes).await).await;
}

#[rpc_parallel::test]
async fn byte_arrays_arrive_unchanged() {
    let worker = ByteWorker::spawn_ok(()).await;
    let array = std::array::from_fn(|it| it as u8 * 8);

    assert_eq!(worker.array(array).await, Ok(array));
    assert_eq!(worker.array_by_reference(&[255; 7]).await, Ok([255; 7]));
}

#[rpc_parallel::test]
async fn bytes_among_other_arguments_arrive_in_order() {
    let worker = ByteWorker::spawn_ok(()).await;

    for size in [0, 100, 100 * KIB, MIB] {
        let bytes = Bytes::from(pattern(size));
        let more = pattern(2 * size);
        let received = worker.between(1, bytes, "and", &more, 2).await;
        assert_eq!(received, Ok(format!("1 {size} and {} 2", 2 * size)));
    }
}

#[rpc_parallel::test]
async fn large_struct_arrives_unchanged() {
    let worker = ByteWorker::spawn_ok(()).await;
    let numbers = (0..1_000_000).map(|it: u32| it.wrapping_mul(0x9e37_79b9)).collect();
    let record = Record { name: "x".repeat(MIB), bytes: pattern(MIB).into(), numbers };

    let returned = soon(worker.record(record.clone())).await;

    assert!(returned == Ok(record));
}

#[rpc_parallel::test]
async fn received_bytes_can_be_sent_again() {
    let worker = ByteWorker::spawn_ok(()).await;
    let received = worker.pattern(MIB + 1).await.expect("the call succeeds");

    let returned = worker.bytes(received.slice(1..)).await.expect("the call succeeds");

    assert!(returned == received[1..]);
}

#[rpc_parallel::test]
async fn concurrent_large_messages_are_not_mixed_up() {
    let worker = ByteWorker::spawn_ok(()).await;
    let all = pattern(8 * MIB);
    let part = |number: usize| &all[number * MIB / 2..][..4 * MIB + number];

    let vectors = join_all((0..4).map(|it| worker.vec(part(it).to_vec())));
    let slices = join_all((4..8).map(|it| worker.slice(part(it))));
    let (vectors, slices) = soon(async { join!(vectors, slices) }).await;

    for (returned, number) in vectors.into_iter().chain(slices).zip(0..) {
        assert!(returned.expect("the call succeeds") == part(number), "message {number} changed");
    }
}

/// Makes small calls until a large one resolves. Returns how many small calls were answered before,
/// and the output of the large one.
async fn small_calls_during<T>(
    worker: &ByteTypesClient,
    large: impl Future<Output = T> + Unpin,
) -> (usize, T) {
    let mut large = large.fuse();
    let mut small = 0;
    // The first poll queues the large call before the small ones.
    assert!(poll_fn(|cx| std::task::Poll::Ready(large.poll_unpin(cx).is_pending())).await);
    loop {
        tokio::select! {
            biased;
            done = &mut large => return (small, done),
            answered = worker.pid().timeout(TEST_TIMEOUT) => {
                answered.expect("large messages do not hold up small calls");
                small += 1;
            }
        }
    }
}

const LARGE: usize = 32 * MIB;

#[rpc_parallel::test]
async fn small_calls_overtake_large_argument() {
    let worker = ByteWorker::spawn_ok(()).await;
    let bytes = pattern(LARGE);

    let (small, length) = small_calls_during(&worker, worker.length(&bytes)).await;

    assert_eq!(length, Ok(LARGE));
    assert!(small >= 3, "{small} small calls were answered meanwhile");
}

#[rpc_parallel::test]
async fn small_calls_overtake_large_result() {
    let worker = ByteWorker::spawn_ok(()).await;

    let (small, returned) = small_calls_during(&worker, worker.pattern(LARGE)).await;

    assert!(returned == Ok(pattern(LARGE).into()));
    assert!(small >= 3, "{small} small calls were answered meanwhile");
}

#[rpc_parallel::test]
async fn small_calls_overtake_large_elements_in_both_directions() {
    let worker = ByteWorker::spawn_ok(()).await;
    let bytes = Bytes::from(pattern(8 * MIB));

    let pipe = worker.patterns(8 * MIB, 4).await.expect("the call succeeds");
    let (while_reading, read) = small_calls_during(&worker, Box::pin(elements(pipe))).await;
    let sent = Pipe::from_items((0..4).map({
        let bytes = bytes.clone();
        move |_| bytes.clone()
    }));
    let (while_writing, total) = small_calls_during(&worker, worker.total_length(sent)).await;

    assert!(read.len() == 4 && read.iter().all(|it| *it == bytes));
    assert_eq!(total, Ok(LARGE));
    let small = [while_reading, while_writing];
    assert!(small.iter().all(|it| *it >= 3), "{small:?} small calls were answered meanwhile");
}

#[rpc_parallel::test]
async fn dropping_partly_sent_call_leaves_connection_usable() {
    let worker = ByteWorker::spawn_ok(()).await;
    let bytes = pattern(LARGE);

    for _ in 0..5 {
        let mut large = worker.length(&bytes);
        assert!((&mut large).now_or_never().is_none());
        worker.pid().timeout(TEST_TIMEOUT).await.expect("the call succeeds");
        drop(large);
        assert_eq!(worker.length(&bytes[..MIB]).timeout(TEST_TIMEOUT).await, Ok(MIB));
    }

    assert_eq!(soon(worker.length(&bytes)).await, Ok(LARGE));
}

#[rpc_parallel::test]
async fn dropping_call_with_large_result_leaves_connection_usable() {
    let worker = ByteWorker::spawn_ok(()).await;

    for _ in 0..5 {
        let mut large = worker.pattern(LARGE);
        assert!((&mut large).now_or_never().is_none());
        worker.pid().timeout(TEST_TIMEOUT).await.expect("the call succeeds");
        drop(large);
    }

    assert!(soon(worker.pattern(MIB)).await == Ok(pattern(MIB).into()));
}

#[rpc_parallel::test]
async fn killed_worker_fails_large_calls_with_its_failure() {
    let worker = ByteWorker::spawn_ok(()).await;
    let pid = worker.pid().await.expect("the call succeeds");
    let bytes = pattern(LARGE);
    let mut large = [worker.slice(&bytes), worker.slice(&bytes)];

    assert!(large.iter_mut().all(|it| it.now_or_never().is_none()));
    kill(pid);

    for failed in soon(join_all(large)).await {
        let error = failed.expect_err("the worker is killed");
        assert!(matches!(error.kind(), CallErrorKind::WorkerDied(_)), "{error}");
    }
}

#[rpc_parallel::test]
async fn message_limit_is_exact_for_fragmented_messages() {
    let limit = 3 * MIB;
    let settings = Settings::default().with_max_message_size(limit);
    let worker = ByteWorker::spawner().settings(settings).spawn_ok(()).await;

    // The encoding of the arguments adds six bytes (their number and the length), that of a result
    // five.
    let argument = worker.length(&vec![7; limit - 6]).await;
    let argument_error =
        worker.length(&vec![7; limit - 5]).await.expect_err("the argument is too large");
    let result = worker.pattern(limit - 5).await;
    let result_error = worker.pattern(limit - 4).await.expect_err("the result is too large");

    let too_large = TooLarge { size: limit + 1, max: limit };
    let too_large = |message| CallErrorKind::TooLarge { message, too_large };
    assert_eq!(argument, Ok(limit - 6));
    assert_eq!(*argument_error.kind(), too_large(MessageKind::Arguments));
    assert!(result.is_ok_and(|it| it.len() == limit - 5));
    assert_eq!(*result_error.kind(), too_large(MessageKind::Result));
    assert_eq!(worker.largest().await, Ok(limit - 6));
}
