//! Who does not read holds up the one who writes to him, and nobody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use rpc_parallel::Settings;
use rpc_parallel::error::{PipeErrorKind, TooLarge, TrySendError};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::PATIENCE;
use rpc_parallel_tests::waiting::{elements, read, soon};
use tokio::join;

/// Wells that never run dry.
#[rpc_parallel::worker]
trait Wells {
    /// Gives elements of so many bytes, through a window of its own if it is told.
    fn open(&self, size: usize, window: Option<usize>) -> Pipe<Vec<u8>>;
    fn open_empty(&self) -> Pipe<()>;
    /// Writes elements of these sizes, and returns which of them could be sent.
    async fn write(&self, writer: PipeWriter<Vec<u8>>, sizes: Vec<usize>) -> Vec<Option<TooLarge>>;
    fn count(&self, to: u64) -> Pipe<u64>;
    fn sizes(&self, sizes: Vec<usize>) -> Pipe<Vec<u8>>;
    /// Returns how many elements have been made so far.
    fn made(&self) -> u64;
    /// Takes a pipe and does not read it.
    fn keep(&self, pipe: Pipe<Vec<u8>>);
    /// Reads what it kept, and returns how many elements there were.
    async fn read_kept(&self) -> Result<u64, AnyError>;
}

#[derive(Default, WorkerState)]
struct Well {
    made: Arc<AtomicU64>,
    kept: Mutex<Option<Pipe<Vec<u8>>>>,
}

/// Makes elements of so many bytes for ever, and counts them.
fn make(size: usize, made: Arc<AtomicU64>) -> impl Iterator<Item = Vec<u8>> {
    (0..).map(move |_: u64| {
        made.fetch_add(1, Ordering::SeqCst);
        vec![7; size]
    })
}

#[rpc_parallel::worker]
impl Wells for Well {
    fn open(&self, size: usize, window: Option<usize>) -> Pipe<Vec<u8>> {
        let pipe = Pipe::from_items(make(size, self.made.clone()));
        match window {
            Some(bytes) => pipe.with_window(bytes),
            None => pipe,
        }
    }

    fn open_empty(&self) -> Pipe<()> {
        Pipe::from_items(make(0, self.made.clone()).map(drop))
    }

    async fn write(&self, writer: PipeWriter<Vec<u8>>, sizes: Vec<usize>) -> Vec<Option<TooLarge>> {
        let mut refused = Vec::new();
        for size in sizes {
            let sent = writer.send(vec![7; size]).await;
            refused.push(sent.err().map(|it| match it.kind() {
                PipeErrorKind::TooLarge(too_large) => *too_large,
                other => panic!("{other:?}"),
            }));
        }
        refused
    }

    fn count(&self, to: u64) -> Pipe<u64> {
        Pipe::from_items(0..to)
    }

    fn sizes(&self, sizes: Vec<usize>) -> Pipe<Vec<u8>> {
        Pipe::from_items(sizes.into_iter().map(|it| vec![7; it]))
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    fn keep(&self, pipe: Pipe<Vec<u8>>) {
        *self.kept.lock().expect("nobody panics in here") = Some(pipe);
    }

    async fn read_kept(&self) -> Result<u64, AnyError> {
        let kept = self.kept.lock().expect("nobody panics in here").take();
        let mut pipe = kept.ok_or_else(|| AnyError::new("there is none"))?;
        let mut count = 0;
        while let Some(element) = pipe.next().await {
            element?;
            count += 1;
        }
        Ok(count)
    }
}

const KIB: usize = 1024;

/// The window of a pipe of which nobody says anything.
const WINDOW: usize = 256 * KIB;

async fn start() -> WellsClient {
    Well::spawn(()).await.expect("start a worker")
}

/// Calls often enough for a writer that does not stop to write very much, and checks how many
/// elements there are each time. Returns how many there are in the end.
async fn assert_made_at_most(
    limit: u64,
    well: &WellsClient,
    made: impl Fn() -> Option<u64>,
) -> u64 {
    let mut last = 0;
    for _ in 0..1000 {
        let answered = well.made().timeout(PATIENCE).await.expect("calls are not held up");
        last = made().unwrap_or(answered);
        assert!(last <= limit, "{last} elements, and {limit} are enough");
    }
    last
}

/// How many elements of so many bytes may be on the way, or in the hands of either side.
fn most(window: usize, size: usize) -> u64 {
    (window / size + 4) as u64
}

#[rpc_parallel::test]
async fn a_worker_makes_no_more_than_its_reader_has_room_for() {
    let well = start().await;

    let mut pipe = well.open(KIB, None).await.expect("call it");
    let unread = assert_made_at_most(most(WINDOW, KIB), &well, || None).await;
    for _ in 0..1000 {
        assert!(matches!(soon(pipe.next()).await, Some(Ok(it)) if it.len() == KIB));
    }
    let read = assert_made_at_most(1000 + most(WINDOW, KIB), &well, || None).await;

    assert!(unread > 0 && read >= 1000, "{unread} and {read}");
}

#[rpc_parallel::test]
async fn a_master_makes_no_more_than_its_worker_has_room_for() {
    let well = start().await;
    let made = Arc::new(AtomicU64::new(0));
    let count = || Some(made.load(Ordering::SeqCst));

    let endless = stream::iter(make(KIB, made.clone()));
    well.keep(endless).await.expect("call it");
    let unread = assert_made_at_most(most(WINDOW, KIB), &well, count).await;

    assert!(unread > 0);
}

#[rpc_parallel::test]
async fn the_window_of_a_pipe_can_be_chosen_by_who_sends_it() {
    let (small, large) = (start().await, start().await);
    let made = Arc::new(AtomicU64::new(0));
    let count = || Some(made.load(Ordering::SeqCst));

    let _few = small.open(KIB, Some(8 * KIB)).await.expect("call it");
    let few = assert_made_at_most(most(8 * KIB, KIB), &small, || None).await;
    let _many = large.open(KIB, Some(1024 * KIB)).await.expect("call it");
    let many = assert_made_at_most(most(1024 * KIB, KIB), &large, || None).await;
    let own = Pipe::from_items(make(KIB, made.clone())).with_window(8 * KIB);
    small.keep(own).await.expect("call it");
    let own = assert_made_at_most(most(8 * KIB, KIB), &small, count).await;

    assert!(few >= 4 && own >= 4, "{few} and {own} in 8 KiB");
    assert!(many >= 512, "{many} in 1 MiB");
}

#[rpc_parallel::test]
async fn the_window_of_all_pipes_can_be_set() {
    let settings = Settings::default().with_stream_window(16 * KIB);
    let spawner = Well::spawner().settings(settings);
    let well = spawner.spawn(()).await.expect("start a worker");

    let _pipe = well.open(KIB, None).await.expect("call it");
    let made = assert_made_at_most(most(16 * KIB, KIB), &well, || None).await;

    assert!(made > 0);
    assert_eq!(Settings::default().stream_window(), WINDOW);
    assert!(Settings::default().with_stream_window(0).validate().is_err());
}

#[rpc_parallel::test]
async fn elements_without_any_bytes_take_room_too() {
    let well = start().await;

    let pipe = well.open_empty().await.expect("call it");
    let made = assert_made_at_most(most(WINDOW, 1), &well, || None).await;

    assert!(made > 0);
    drop(pipe);
}

#[rpc_parallel::test]
async fn pipes_that_nobody_reads_hold_up_no_other() {
    let well = start().await;
    let mut unread = Vec::new();
    for _ in 0..100 {
        unread.push(well.open(KIB, None).await.expect("call it"));
    }

    let pipe = well.count(300_000).await.expect("call it");
    let read = elements(pipe).await;

    assert!(read.into_iter().eq(0..300_000));
    assert_made_at_most(100 * most(WINDOW, KIB), &well, || None).await;
    // And each of them goes on when somebody reads it.
    for pipe in &mut unread {
        assert!(matches!(soon(pipe.next()).await, Some(Ok(_))));
    }
}

#[rpc_parallel::test]
async fn an_element_larger_than_the_window_travels_alone() {
    let well = start().await;

    let mut pipe = well.open(100 * KIB, Some(KIB)).await.expect("call it");
    let made = assert_made_at_most(4, &well, || None).await;
    for _ in 0..20 {
        let element = soon(pipe.next()).await.expect("it does not end").expect("it arrives");
        assert_eq!(element.len(), 100 * KIB);
    }

    assert!(made > 0);
}

#[rpc_parallel::test]
async fn a_writer_waits_for_room_or_says_that_there_is_none() {
    let well = start().await;
    let (writer, pipe) = Pipe::pair();
    well.keep(pipe.with_window(8 * KIB)).await.expect("call it");

    let room = (0..1000).take_while(|_| writer.try_send(vec![7; KIB]).is_ok()).count() as u64;
    let full = writer.try_send(vec![8; KIB]);
    let mut sending = Box::pin(async move { writer.send(vec![9; KIB]).await });
    let waits = (&mut sending).now_or_never().is_none();
    let (kept, sent) = soon(async { join!(well.read_kept(), sending) }).await;

    assert!(room >= 1 && room <= most(8 * KIB, KIB), "{room}");
    assert!(matches!(full, Err(TrySendError::Full(it)) if it == vec![8; KIB]));
    assert!(waits && sent.is_ok());
    assert_eq!(kept, Ok(room + 1));
}

#[rpc_parallel::test]
async fn a_send_that_is_given_up_sends_nothing() {
    let well = start().await;
    let (writer, pipe) = Pipe::pair();
    well.keep(pipe.with_window(8 * KIB)).await.expect("call it");

    let room = (0..1000).take_while(|_| writer.try_send(vec![7; KIB]).is_ok()).count() as u64;
    for _ in 0..10 {
        assert!(writer.send(vec![8; KIB]).now_or_never().is_none());
    }
    drop(writer);

    assert_eq!(soon(well.read_kept()).await, Ok(room));
}

const LIMIT: usize = 10_000;

async fn start_limited() -> WellsClient {
    let settings = Settings::default().with_max_message_size(LIMIT);
    Well::spawner().settings(settings).spawn(()).await.expect("start a worker")
}

#[rpc_parallel::test]
async fn an_element_that_is_too_large_is_refused_and_the_others_travel() {
    let well = start_limited().await;
    let (writer, pipe) = Pipe::pair();

    let written = soon(well.write(writer, vec![100, 3 * LIMIT, 200, 2 * LIMIT])).await;
    let lengths: Vec<_> = elements(pipe).await.iter().map(Vec::len).collect();

    let refused = written.expect("call it");
    assert_eq!(lengths, [100, 200]);
    assert!(refused[0].is_none() && refused[2].is_none(), "{refused:?}");
    for (refused, size) in [(refused[1], 3 * LIMIT), (refused[3], 2 * LIMIT)] {
        let TooLarge { size: found, max } = refused.expect("it is too large");
        assert!(found >= size && max == LIMIT, "{found} of {max}");
    }
}

#[rpc_parallel::test]
async fn a_master_too_is_refused_what_is_too_large() {
    let well = start_limited().await;
    let (writer, pipe) = Pipe::pair();
    well.keep(pipe).await.expect("call it");

    let first = writer.send(vec![7; 100]).await;
    let second = writer.send(vec![7; 2 * LIMIT]).await;
    let third = writer.try_send(vec![7; 2 * LIMIT]);
    let fourth = writer.send(vec![7; 100]).await;
    drop(writer);

    assert!(first.is_ok() && fourth.is_ok());
    let error = second.expect_err("it is too large");
    assert!(matches!(error.kind(), PipeErrorKind::TooLarge(it) if it.max == LIMIT), "{error}");
    assert!(error.to_string().contains("10000"), "{error}");
    assert!(matches!(third, Err(TrySendError::Failed(_))), "{third:?}");
    assert_eq!(soon(well.read_kept()).await, Ok(2));
}

#[rpc_parallel::test]
async fn an_element_of_a_stream_that_is_too_large_is_an_error_in_its_place() {
    let well = start_limited().await;

    let mut pipe = well.sizes(vec![100, 2 * LIMIT, 200]).await.expect("call it");
    let mut seen = Vec::new();
    while let Some(element) = soon(pipe.next()).await {
        seen.push(match element {
            Ok(element) => element.len(),
            Err(error) => match error.kind() {
                PipeErrorKind::TooLarge(it) => it.max,
                other => panic!("{other:?}"),
            },
        });
    }

    assert_eq!(seen, [100, LIMIT, 200]);
}

#[rpc_parallel::test]
async fn elements_that_are_too_large_together_go_one_after_the_other() {
    let well = start_limited().await;
    let (writer, pipe) = Pipe::pair();
    for _ in 0..50 {
        writer.send(vec![7; LIMIT / 3]).await.expect("there is room");
    }
    writer.send(vec![7; LIMIT - 100]).await.expect("there is room");
    drop(writer);

    well.keep(pipe).await.expect("call it");
    let sizes = well.sizes(vec![LIMIT / 3, LIMIT / 2, LIMIT - 100, 1]).await.expect("call it");
    let sizes = soon(elements(sizes)).await.into_iter().map(|it| it.len());

    assert!(sizes.eq([LIMIT / 3, LIMIT / 2, LIMIT - 100, 1]));
    assert_eq!(soon(well.read_kept()).await, Ok(51));
}

#[rpc_parallel::test]
async fn many_pipes_flow_at_once_in_both_directions() {
    let well = start().await;
    let reading = (0..20).map(async |_| {
        let pipe = well.sizes(vec![10 * KIB; 100]).await.expect("call it");
        let (elements, error) = read(pipe).await;
        (elements.len(), error.is_none())
    });
    let writing = (0..20).map(async |_| {
        let (writer, pipe) = Pipe::pair();
        let (written, read) = join!(well.write(writer, vec![10 * KIB; 100]), read(pipe));
        (written.map(|it| it.len()), read.0.len())
    });

    let (read, written) = soon(async { join!(join_all(reading), join_all(writing)) }).await;

    assert_eq!(read, [(100, true); 20]);
    assert!(written.into_iter().all(|it| it == (Ok(100), 100)));
}
