//! Flow control: a reader that does not read holds up its writer, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use rpc_parallel::Settings;
use rpc_parallel::error::{PipeErrorKind, TooLarge, TrySendError};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::TEST_TIMEOUT;
use rpc_parallel_tests::spawn_ok::{SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{elements, read, soon};
use tokio::join;

/// Functions that write and read elements of given sizes.
#[rpc_parallel::worker]
trait SizedElements {
    /// Returns an endless pipe of elements of `size` bytes. The default window applies unless one
    /// is given.
    fn endless(&self, size: usize, window: Option<usize>) -> Pipe<Vec<u8>>;
    /// Returns an endless pipe of elements without bytes.
    fn endless_units(&self) -> Pipe<()>;
    /// Writes elements of these sizes. Returns for each of them whether it was too large.
    async fn write(&self, writer: PipeWriter<Vec<u8>>, sizes: Vec<usize>) -> Vec<Option<TooLarge>>;
    fn numbers(&self, count: u64) -> Pipe<u64>;
    /// Returns a pipe of elements of these sizes.
    fn elements(&self, sizes: Vec<usize>) -> Pipe<Vec<u8>>;
    /// Returns how many elements the endless pipes have produced.
    fn produced(&self) -> u64;
    /// Keeps a pipe without reading it.
    fn keep_unread(&self, pipe: Pipe<Vec<u8>>);
    /// Reads the kept pipe to its end, and returns how many elements it had.
    async fn read_kept(&self) -> Result<u64, AnyError>;
}

#[derive(Default, WorkerState)]
struct SizedElementWorker {
    produced: Arc<AtomicU64>,
    kept: Mutex<Option<Pipe<Vec<u8>>>>,
}

/// Returns an endless iterator of elements of `size` bytes that counts them.
fn endless(size: usize, produced: Arc<AtomicU64>) -> impl Iterator<Item = Vec<u8>> {
    (0..).map(move |_: u64| {
        produced.fetch_add(1, Ordering::SeqCst);
        vec![7; size]
    })
}

#[rpc_parallel::worker]
impl SizedElements for SizedElementWorker {
    fn endless(&self, size: usize, window: Option<usize>) -> Pipe<Vec<u8>> {
        let pipe = Pipe::from_items(endless(size, self.produced.clone()));
        match window {
            Some(bytes) => pipe.with_window(bytes),
            None => pipe,
        }
    }

    fn endless_units(&self) -> Pipe<()> {
        Pipe::from_items(endless(0, self.produced.clone()).map(drop))
    }

    async fn write(&self, writer: PipeWriter<Vec<u8>>, sizes: Vec<usize>) -> Vec<Option<TooLarge>> {
        let mut errors = Vec::new();
        for size in sizes {
            let sent = writer.send(vec![7; size]).await;
            errors.push(sent.err().map(|error| match error.kind() {
                PipeErrorKind::TooLarge(too_large) => *too_large,
                other => panic!("expected a too large element, found {other:?}"),
            }));
        }
        errors
    }

    fn numbers(&self, count: u64) -> Pipe<u64> {
        Pipe::from_items(0..count)
    }

    fn elements(&self, sizes: Vec<usize>) -> Pipe<Vec<u8>> {
        Pipe::from_items(sizes.into_iter().map(|it| vec![7; it]))
    }

    fn produced(&self) -> u64 {
        self.produced.load(Ordering::SeqCst)
    }

    fn keep_unread(&self, pipe: Pipe<Vec<u8>>) {
        *self.kept.lock().expect("no holder of the lock panics") = Some(pipe);
    }

    async fn read_kept(&self) -> Result<u64, AnyError> {
        let kept = self.kept.lock().expect("no holder of the lock panics").take();
        let mut pipe = kept.ok_or_else(|| AnyError::new("no pipe is kept"))?;
        let mut count = 0;
        while let Some(element) = pipe.next().await {
            element?;
            count += 1;
        }
        Ok(count)
    }
}

const KIB: usize = 1024;

/// The default window of a pipe.
const WINDOW: usize = 256 * KIB;

/// Makes 1000 calls, which give a writer without flow control the time to exceed the limit. Checks
/// after each call how many elements have been produced: by `produced`, or in the worker if that
/// returns `None`. Returns the last number.
async fn assert_produced_at_most(
    limit: u64,
    worker: &SizedElementsClient,
    produced: impl Fn() -> Option<u64>,
) -> u64 {
    let mut last = 0;
    for _ in 0..1000 {
        let in_worker = worker.produced().timeout(TEST_TIMEOUT).await;
        last = produced().unwrap_or(in_worker.expect("unread pipes do not hold up calls"));
        assert!(last <= limit, "{last} elements were produced, the limit is {limit}");
    }
    last
}

/// Returns how many elements of `size` bytes may be in a window or be held by either side.
fn limit(window: usize, size: usize) -> u64 {
    (window / size + 4) as u64
}

#[rpc_parallel::test]
async fn worker_produces_no_more_than_window_of_reader() {
    let worker = SizedElementWorker::spawn_ok(()).await;

    let mut pipe = worker.endless(KIB, None).await.expect("the call succeeds");
    let before_reading = assert_produced_at_most(limit(WINDOW, KIB), &worker, || None).await;
    for _ in 0..1000 {
        assert!(matches!(soon(pipe.next()).await, Some(Ok(it)) if it.len() == KIB));
    }
    let after = assert_produced_at_most(1000 + limit(WINDOW, KIB), &worker, || None).await;

    assert!(before_reading > 0 && after >= 1000, "{before_reading} and {after}");
}

#[rpc_parallel::test]
async fn master_produces_no_more_than_window_of_worker() {
    let worker = SizedElementWorker::spawn_ok(()).await;
    let produced = Arc::new(AtomicU64::new(0));
    let count = || Some(produced.load(Ordering::SeqCst));

    let stream = stream::iter(endless(KIB, produced.clone()));
    worker.keep_unread(stream).await.expect("the call succeeds");
    let unread = assert_produced_at_most(limit(WINDOW, KIB), &worker, count).await;

    assert!(unread > 0);
}

#[rpc_parallel::test]
async fn sender_of_pipe_chooses_its_window() {
    let small = SizedElementWorker::spawn_ok(()).await;
    let large = SizedElementWorker::spawn_ok(()).await;
    let produced = Arc::new(AtomicU64::new(0));
    let count = || Some(produced.load(Ordering::SeqCst));

    let _small_pipe = small.endless(KIB, Some(8 * KIB)).await.expect("the call succeeds");
    let in_small = assert_produced_at_most(limit(8 * KIB, KIB), &small, || None).await;
    let _large_pipe = large.endless(KIB, Some(1024 * KIB)).await.expect("the call succeeds");
    let in_large = assert_produced_at_most(limit(1024 * KIB, KIB), &large, || None).await;
    let own_pipe = Pipe::from_items(endless(KIB, produced.clone())).with_window(8 * KIB);
    small.keep_unread(own_pipe).await.expect("the call succeeds");
    let in_own = assert_produced_at_most(limit(8 * KIB, KIB), &small, count).await;

    assert!(in_small >= 4 && in_own >= 4, "{in_small} and {in_own} elements in 8 KiB");
    assert!(in_large >= 512, "{in_large} elements in 1 MiB");
}

#[rpc_parallel::test]
async fn settings_choose_window_of_all_pipes() {
    let settings = Settings::default().with_stream_window(16 * KIB);
    let worker = SizedElementWorker::spawner().settings(settings).spawn_ok(()).await;

    let _pipe = worker.endless(KIB, None).await.expect("the call succeeds");
    let produced = assert_produced_at_most(limit(16 * KIB, KIB), &worker, || None).await;

    assert!(produced > 0);
    assert_eq!(Settings::default().stream_window(), WINDOW);
    assert!(Settings::default().with_stream_window(0).validate().is_err());
}

#[rpc_parallel::test]
async fn elements_without_bytes_use_credit() {
    let worker = SizedElementWorker::spawn_ok(()).await;

    let pipe = worker.endless_units().await.expect("the call succeeds");
    let produced = assert_produced_at_most(limit(WINDOW, 1), &worker, || None).await;

    assert!(produced > 0);
    drop(pipe);
}

#[rpc_parallel::test]
async fn unread_pipes_do_not_hold_up_other_pipe() {
    let worker = SizedElementWorker::spawn_ok(()).await;
    let mut unread = Vec::new();
    for _ in 0..100 {
        unread.push(worker.endless(KIB, None).await.expect("the call succeeds"));
    }

    let pipe = worker.numbers(300_000).await.expect("the call succeeds");
    let read = elements(pipe).await;

    assert!(read.into_iter().eq(0..300_000));
    assert_produced_at_most(100 * limit(WINDOW, KIB), &worker, || None).await;
    // Each of the unread pipes continues when it is read.
    for pipe in &mut unread {
        assert!(matches!(soon(pipe.next()).await, Some(Ok(_))));
    }
}

#[rpc_parallel::test]
async fn element_larger_than_window_is_sent_alone() {
    let worker = SizedElementWorker::spawn_ok(()).await;

    let mut pipe = worker.endless(100 * KIB, Some(KIB)).await.expect("the call succeeds");
    let produced = assert_produced_at_most(4, &worker, || None).await;
    for _ in 0..20 {
        let element = soon(pipe.next()).await.expect("the pipe is endless");
        assert_eq!(element.expect("the pipe does not fail").len(), 100 * KIB);
    }

    assert!(produced > 0);
}

#[rpc_parallel::test]
async fn send_waits_and_try_send_fails_when_window_is_full() {
    let worker = SizedElementWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    worker.keep_unread(pipe.with_window(8 * KIB)).await.expect("the call succeeds");

    let accepted = (0..1000).take_while(|_| writer.try_send(vec![7; KIB]).is_ok()).count() as u64;
    let full = writer.try_send(vec![8; KIB]);
    let mut sending = Box::pin(async move { writer.send(vec![9; KIB]).await });
    let waits = (&mut sending).now_or_never().is_none();
    let (read, sent) = soon(async { join!(worker.read_kept(), sending) }).await;

    assert!(accepted >= 1 && accepted <= limit(8 * KIB, KIB), "{accepted} elements in 8 KiB");
    assert!(matches!(full, Err(TrySendError::Full(it)) if it == vec![8; KIB]));
    assert!(waits && sent.is_ok());
    assert_eq!(read, Ok(accepted + 1));
}

#[rpc_parallel::test]
async fn dropped_send_sends_nothing() {
    let worker = SizedElementWorker::spawn_ok(()).await;
    let (writer, pipe) = Pipe::pair();
    worker.keep_unread(pipe.with_window(8 * KIB)).await.expect("the call succeeds");

    let accepted = (0..1000).take_while(|_| writer.try_send(vec![7; KIB]).is_ok()).count() as u64;
    for _ in 0..10 {
        assert!(writer.send(vec![8; KIB]).now_or_never().is_none());
    }
    drop(writer);

    assert_eq!(soon(worker.read_kept()).await, Ok(accepted));
}

const MAX_MESSAGE_SIZE: usize = 10_000;

async fn spawn_with_small_messages() -> SizedElementsClient {
    let settings = Settings::default().with_max_message_size(MAX_MESSAGE_SIZE);
    SizedElementWorker::spawner().settings(settings).spawn_ok(()).await
}

#[rpc_parallel::test]
async fn worker_fails_to_send_too_large_elements_only() {
    let worker = spawn_with_small_messages().await;
    let (writer, pipe) = Pipe::pair();

    let sizes = vec![100, 3 * MAX_MESSAGE_SIZE, 200, 2 * MAX_MESSAGE_SIZE];
    let errors = soon(worker.write(writer, sizes)).await.expect("the call succeeds");
    let lengths: Vec<_> = elements(pipe).await.iter().map(Vec::len).collect();

    assert_eq!(lengths, [100, 200]);
    assert!(errors[0].is_none() && errors[2].is_none(), "{errors:?}");
    for (error, sent) in [(errors[1], 3 * MAX_MESSAGE_SIZE), (errors[3], 2 * MAX_MESSAGE_SIZE)] {
        let TooLarge { size, max } = error.expect("the element is too large");
        assert!(size >= sent && max == MAX_MESSAGE_SIZE, "{size} of {max} bytes");
    }
}

#[rpc_parallel::test]
async fn master_fails_to_send_too_large_elements_only() {
    let worker = spawn_with_small_messages().await;
    let (writer, pipe) = Pipe::pair();
    worker.keep_unread(pipe).await.expect("the call succeeds");

    let first = writer.send(vec![7; 100]).await;
    let second = writer.send(vec![7; 2 * MAX_MESSAGE_SIZE]).await;
    let third = writer.try_send(vec![7; 2 * MAX_MESSAGE_SIZE]);
    let fourth = writer.send(vec![7; 100]).await;
    drop(writer);

    assert!(first.is_ok() && fourth.is_ok());
    let error = second.expect_err("the element is too large");
    let too_large =
        matches!(error.kind(), PipeErrorKind::TooLarge(it) if it.max == MAX_MESSAGE_SIZE);
    assert!(too_large, "{error}");
    assert!(error.to_string().contains("10000"), "{error}");
    assert!(matches!(third, Err(TrySendError::Failed(_))), "{third:?}");
    assert_eq!(soon(worker.read_kept()).await, Ok(2));
}

#[rpc_parallel::test]
async fn too_large_element_of_stream_is_error_in_its_place() {
    let worker = spawn_with_small_messages().await;

    let sizes = vec![100, 2 * MAX_MESSAGE_SIZE, 200];
    let mut pipe = worker.elements(sizes).await.expect("the call succeeds");
    let mut read = Vec::new();
    while let Some(element) = soon(pipe.next()).await {
        read.push(match element {
            Ok(element) => Ok(element.len()),
            Err(error) => match error.kind() {
                PipeErrorKind::TooLarge(too_large) => Err(too_large.max),
                other => panic!("expected a too large element, found {other:?}"),
            },
        });
    }

    assert_eq!(read, [Ok(100), Err(MAX_MESSAGE_SIZE), Ok(200)]);
}

#[rpc_parallel::test]
async fn buffered_elements_beyond_message_limit_are_sent_separately() {
    let worker = spawn_with_small_messages().await;
    let (writer, pipe) = Pipe::pair();
    for _ in 0..50 {
        writer.send(vec![7; MAX_MESSAGE_SIZE / 3]).await.expect("the pipe has room");
    }
    writer.send(vec![7; MAX_MESSAGE_SIZE - 100]).await.expect("the pipe has room");
    drop(writer);

    worker.keep_unread(pipe).await.expect("the call succeeds");
    let sizes = [MAX_MESSAGE_SIZE / 3, MAX_MESSAGE_SIZE / 2, MAX_MESSAGE_SIZE - 100, 1];
    let pipe = worker.elements(sizes.into()).await.expect("the call succeeds");
    let read = soon(elements(pipe)).await.into_iter().map(|it| it.len());

    assert!(read.eq(sizes));
    assert_eq!(soon(worker.read_kept()).await, Ok(51));
}

#[rpc_parallel::test]
async fn many_pipes_carry_elements_in_both_directions_concurrently() {
    let worker = SizedElementWorker::spawn_ok(()).await;
    let reading = (0..20).map(async |_| {
        let pipe = worker.elements(vec![10 * KIB; 100]).await.expect("the call succeeds");
        let (elements, error) = read(pipe).await;
        (elements.len(), error.is_none())
    });
    let writing = (0..20).map(async |_| {
        let (writer, pipe) = Pipe::pair();
        let (written, read) = join!(worker.write(writer, vec![10 * KIB; 100]), read(pipe));
        (written.map(|it| it.len()), read.0.len())
    });

    let (read, written) = soon(async { join!(join_all(reading), join_all(writing)) }).await;

    assert_eq!(read, [(100, true); 20]);
    assert!(written.into_iter().all(|it| it == (Ok(100), 100)));
}
