//! Threads that use one connection at the same time, in random schedules. `shuttle` chooses them, and
//! reports a deadlock when all threads wait: a task that was not woken.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use tokio::runtime::{Builder, Runtime};

use super::peer::{frame, kind};
use crate::connection::delivery::{Delivery, Flow};
use crate::connection::ends::{Elements, OwnedEnd, ReadEnd, WriteEnd};
use crate::connection::failure::Loss;
use crate::connection::pipe::feed;
use crate::connection::scripted::function;
use crate::connection::shared::{Connection, Peer};
use crate::connection::traffic::Traffic;
use crate::connection::writing::Writing;
use crate::protocol::{Chunk, SendStatus};
use crate::transport::Writer;
use crate::wire::{
    Body, Frame, FunctionInfo, MAX_FRAGMENT_LEN, MessageWriter, ReceiveLimits, Settings, StreamId,
    TooLarge, Unsent, WorkerLabel, WrittenBy,
};

const FUNCTION: &FunctionInfo = &function("function");

/// The number of schedules of each test, unless `RPC_PARALLEL_SCHEDULES` is set.
const SCHEDULES: usize = 3000;

fn check(threads: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("RPC_PARALLEL_SCHEDULES").ok();
    let schedules = schedules.map(|it| it.parse().expect("it is a number")).unwrap_or(SCHEDULES);
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without sockets can be made");
    let runtime = Arc::new(runtime);
    RUNTIME.with(|it| it.replace(Some(runtime)));
    shuttle::check_random(threads, schedules);
}

thread_local! {
    /// All threads of `shuttle` run on one thread of the operating system.
    static RUNTIME: RefCell<Option<Arc<Runtime>>> = const { RefCell::new(None) };
}

/// Makes a connection over a transport that has room for `room` bytes.
fn connection(room: usize) -> (Arc<Connection>, Transport) {
    connection_with(room, Settings::default())
}

fn connection_with(room: usize, settings: Settings) -> (Arc<Connection>, Transport) {
    let transport = Transport::default();
    transport.make_room(room);
    let label = WorkerLabel {
        name: None,
        worker_type: "Scripted".to_owned(),
        pid: None,
        host: "here".to_owned(),
    };
    let runtime = RUNTIME.with(|it| it.borrow().clone()).expect("the test has made it");
    let _entered = runtime.enter();
    let (peer, writer) = (Peer::Worker(Arc::new(label)), Box::new(transport.clone()));
    let limits = ReceiveLimits::of(&settings);
    let connection = Connection::new(peer, settings, &limits, Traffic::here(), writer);
    (Arc::new(connection), transport)
}

/// The half of a transport that is written.
#[derive(Clone, Default)]
struct Transport(Arc<Mutex<Stream>>);

#[derive(Default)]
struct Stream {
    written: Vec<u8>,
    room: usize,
    ended: bool,
    writer: Option<Waker>,
}

impl Transport {
    fn make_room(&self, len: usize) {
        self.change(|it| it.room += len);
    }

    fn change(&self, change: impl FnOnce(&mut Stream)) {
        let mut stream = self.0.lock().expect("no thread panics while it holds this lock");
        change(&mut stream);
        let writer = stream.writer.take();
        drop(stream);
        writer.into_iter().for_each(Waker::wake);
    }

    /// Returns the frames that are written, without their length. Panics if one is incomplete.
    fn frames(&self) -> Vec<Vec<u8>> {
        let stream = self.0.lock().expect("no thread panics while it holds this lock");
        let (mut rest, mut frames) = (&stream.written[..], Vec::new());
        while let Some((length, after)) = rest.split_first_chunk() {
            let (frame, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            frames.push(frame.to_vec());
            rest = after;
        }
        assert!(rest.is_empty(), "a frame is incomplete");
        frames
    }

    fn kinds(&self) -> Vec<u8> {
        self.frames().iter().map(|it| it[0]).collect()
    }
}

impl Writer for Transport {
    fn try_write(&self, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut stream = self.0.lock().expect("no thread panics while it holds this lock");
        if stream.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut written = 0;
        for segment in segments {
            let len = segment.len().min(stream.room);
            stream.written.extend_from_slice(&segment[..len]);
            stream.room -= len;
            written += len;
        }
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.0.lock().expect("no thread panics while it holds this lock");
        if stream.room > 0 || stream.ended {
            return Poll::Ready(Ok(()));
        }
        stream.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn prefer_latency(&self, _: bool) {}

    fn is_inherited(&self) -> bool {
        false
    }

    fn close(&self) {
        self.change(|it| it.ended = true);
    }
}

/// Writes frames until the connection is closed and all frames are written, as the driver does.
fn drive(connection: &Connection) {
    let mut writing = Writing::default();
    block_on(poll_fn(|cx| {
        if let Poll::Ready(Err(_)) = writing.poll_write(connection, &mut Vec::new(), cx) {
            return Poll::Ready(());
        }
        let mut locked = connection.lock();
        locked.set_driver(cx);
        match locked.is_closing && locked.machine.is_idle() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }));
}

fn lose(connection: &Connection) {
    connection.lose(&Arc::new(Loss::Closed));
}

fn assert_nothing_left(connection: &Connection) {
    assert_eq!(connection.lock().machine.leftovers(), []);
}

#[test]
fn frames_of_callers_are_complete_after_last_one_closes() {
    check(|| {
        let (connection, transport) = connection(7);
        let open = Arc::new(AtomicUsize::new(2));
        let callers = [0, 1].map(|caller| {
            let (connection, open) = (connection.clone(), open.clone());
            thread::spawn(move || {
                for number in 0..2 {
                    let call = Unsent::Small(frame(kind::ONE_WAY, &[&[caller, number]]));
                    let (ticket, transmit) = connection.lock().machine.send_one_way(call, &[]);
                    if let Some(transmit) = transmit {
                        connection.write_now(transmit);
                    }
                    if number == 0 {
                        block_on(poll_fn(|cx| connection.poll_written(ticket, cx)));
                    }
                }
                if open.fetch_sub(1, Ordering::SeqCst) == 1 {
                    connection.close();
                }
            })
        });
        let peer = thread::spawn({
            let transport = transport.clone();
            move || (0..4).for_each(|_| transport.make_room(6))
        });

        drive(&connection);

        for thread in callers.into_iter().chain([peer]) {
            thread.join().expect("the thread does not panic");
        }
        let frames = transport.frames();
        for caller in [0, 1] {
            let of_caller = frames.iter().filter(|it| it[1] == caller).map(|it| it[2]);
            assert_eq!(of_caller.collect::<Vec<_>>(), [0, 1]);
        }
    });
}

#[test]
fn cancel_beside_end_of_connection_leaves_nothing() {
    check(|| {
        let (connection, _transport) = connection(2 * MAX_FRAGMENT_LEN);
        let waker = Waker::noop();
        let call = connection.lock().machine.begin_call(FUNCTION, waker);
        let call = call.expect("the connection is not lost");
        let ends = [WrittenBy::Sender, WrittenBy::Receiver]
            .map(|it| OwnedEnd::open(&connection, &mut connection.lock(), it, None, None));
        let [(written, writer), (read, reader)] = ends;
        let mut buffer = Vec::new();
        let message = MessageWriter::call(&mut buffer, FUNCTION.id(), usize::MAX);
        let message = message.message(|sink| {
            io::Write::write_all(sink, &[7; 3 * MAX_FRAGMENT_LEN]).expect("it cannot fail");
            Ok::<_, TooLarge>(())
        });
        let large = message.expect("the message has no limit").finish();
        let mut message = Unsent::Large(Box::new(large.expect("the message is large")));
        message.set_call(&[written, read], call, None);
        let sent = connection.lock().machine.send_call(message, &[written, read], true);
        let (ticket, _) = sent;

        let canceller = thread::spawn({
            let connection = connection.clone();
            move || connection.lock().machine.cancel_call(call, ticket, true)
        });
        let user = thread::spawn(move || drop((writer, reader)));
        let mut writing = Writing::default();
        block_on(poll_fn(|cx| {
            let _ = writing.poll_write(&connection, &mut Vec::new(), cx);
            Poll::Ready(())
        }));
        lose(&connection);
        connection.end();

        canceller.join().expect("the thread does not panic");
        user.join().expect("the thread does not panic");
        assert_nothing_left(&connection);
    });
}

#[test]
fn dropped_writer_and_stop_send_one_end() {
    check(|| {
        let (connection, transport) = connection(1000);
        let (opened, end) =
            OwnedEnd::open(&connection, &mut connection.lock(), WrittenBy::Sender, None, None);
        let user = thread::spawn(move || {
            let OwnedEnd::Writing(end) = end else { unreachable!("this end writes") };
            let _ = end.try_send(&mut Some(elements(&end)));
            drop(end);
        });
        let driver = thread::spawn({
            let connection = connection.clone();
            move || drive(&connection)
        });

        handle(&connection, Frame::Stop { stream: opened.id });

        user.join().expect("the thread does not panic");
        connection.close();
        driver.join().expect("the thread does not panic");
        let kinds = transport.kinds();
        assert!([&[kind::END][..], &[kind::ITEMS, kind::END]].contains(&&kinds[..]), "{kinds:?}");
        assert_nothing_left(&connection);
    });
}

#[test]
fn dropped_reader_beside_end_of_stream_leaves_nothing() {
    check(|| {
        let (connection, transport) = connection(1000);
        let (opened, end) =
            OwnedEnd::open(&connection, &mut connection.lock(), WrittenBy::Receiver, None, None);
        let user = thread::spawn(move || drop(end));
        let driver = thread::spawn({
            let connection = connection.clone();
            move || drive(&connection)
        });

        handle(&connection, items(opened.id));
        handle(&connection, Frame::End { stream: opened.id, error: &[] });

        user.join().expect("the thread does not panic");
        connection.close();
        driver.join().expect("the thread does not panic");
        let kinds = transport.kinds();
        assert!([&[][..], &[kind::STOP]].contains(&&kinds[..]), "{kinds:?}");
        assert_nothing_left(&connection);
    });
}

#[test]
fn callback_gets_elements_in_order_and_one_end() {
    check(|| {
        let (connection, _transport) = connection(1000);
        let (opened, end) =
            OwnedEnd::open(&connection, &mut connection.lock(), WrittenBy::Receiver, None, None);
        let events = Arc::new(Mutex::new(Vec::new()));
        let user = thread::spawn({
            let events = events.clone();
            move || read_direct(end, events)
        });

        handle(&connection, items(opened.id));
        handle(&connection, items(opened.id));
        match thread_rng().gen_bool(0.5) {
            true => handle(&connection, Frame::End { stream: opened.id, error: &[] }),
            false => lose(&connection),
        }

        user.join().expect("the thread does not panic");
        let events = events.lock().expect("no thread panics while it holds this lock");
        assert_eq!(*events, ["elements", "elements", "end"]);
        assert_eq!(connection.open_streams(), 0);
    });
}

#[test]
fn waiting_writer_is_woken_by_credit_or_loss() {
    check(|| {
        let (connection, _transport) = connection(1000);
        let (opened, end) =
            OwnedEnd::open(&connection, &mut connection.lock(), WrittenBy::Sender, Some(1), None);
        let OwnedEnd::Writing(end) = end else { unreachable!("this end writes") };
        let user = thread::spawn(move || {
            for _ in 0..2 {
                let mut elements = Some(elements(&end));
                let _ = block_on(poll_fn(|cx| end.poll_send(&mut elements, cx)));
            }
        });

        match thread_rng().gen_bool(0.5) {
            true => {
                while connection.lock().machine.send_status(opened.id) != SendStatus::Full {
                    thread::yield_now();
                }
                let bytes = Chunk::cost_of(1) as u32;
                handle(&connection, Frame::Credit { stream: opened.id, bytes });
            }
            false => lose(&connection),
        }

        user.join().expect("the thread does not panic");
    });
}

#[test]
fn task_that_feeds_stream_is_woken_by_credit_of_connection() {
    const WINDOW: usize = 64 * 1024;
    /// A stream of one number.
    struct One(Option<u64>);
    impl futures_core::Stream for One {
        type Item = u64;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
            Poll::Ready(self.0.take())
        }
    }
    check(|| {
        let settings = Settings::default().with_connection_window(WINDOW);
        let (connection, _transport) = connection_with(2 * WINDOW, settings);
        let ends = [(); 2].map(|()| {
            let mut locked = connection.lock();
            OwnedEnd::open(&connection, &mut locked, WrittenBy::Sender, None, None)
        });
        let [(_, OwnedEnd::Writing(fed)), (_, OwnedEnd::Writing(other))] = ends else {
            unreachable!("these ends write")
        };
        let user = thread::spawn(move || block_on(feed(One(Some(7)), fed)));

        let mut whole_window = Some(elements_of(&other, WINDOW));
        assert_eq!(other.try_send(&mut whole_window), Ok(true));
        let bytes = Chunk::cost_of(WINDOW) as u32;
        handle(&connection, Frame::Credit { stream: StreamId(0), bytes });

        user.join().expect("the thread does not panic");
    });
}

#[test]
fn waiting_reader_is_woken_by_element_and_end() {
    check(|| {
        let (connection, _transport) = connection(1000);
        let (opened, end) =
            OwnedEnd::open(&connection, &mut connection.lock(), WrittenBy::Receiver, None, None);
        let OwnedEnd::Reading(end) = end else { unreachable!("this end reads") };
        let user = thread::spawn(move || {
            let mut chunks = 0;
            while let Some(Ok(_)) = block_on(poll_fn(|cx| end.poll_chunk(cx))) {
                chunks += 1;
            }
            chunks
        });

        handle(&connection, items(opened.id));
        match thread_rng().gen_bool(0.5) {
            true => handle(&connection, Frame::End { stream: opened.id, error: &[] }),
            false => lose(&connection),
        }

        assert_eq!(user.join().expect("the thread does not panic"), 1);
    });
}

fn read_direct(end: OwnedEnd, events: Arc<Mutex<Vec<&'static str>>>) {
    let OwnedEnd::Reading(end) = end else { unreachable!("this end reads") };
    ReadEnd::read_direct(
        end,
        Box::new(move |delivery| {
            let event = match delivery {
                Delivery::Elements { .. } => "elements",
                Delivery::Skipped(_) => "skipped",
                Delivery::End(_) => "end",
            };
            events.lock().expect("no thread panics while it holds this lock").push(event);
            Flow::Continue
        }),
    );
}

fn elements(end: &WriteEnd) -> Elements {
    elements_of(end, 1)
}

fn elements_of(end: &WriteEnd, len: usize) -> Elements {
    let encoded = end.encode(usize::MAX, |sink| {
        io::Write::write_all(sink, &vec![7; len]).expect("writing to a sink cannot fail");
        Ok::<_, TooLarge>(1)
    });
    encoded.expect("the message has no limit")
}

fn items(stream: StreamId) -> Frame<'static> {
    Frame::Items { stream, count: 1, elements: Body::of(&[7]) }
}

fn handle(connection: &Connection, frame: Frame<'_>) {
    drop(connection.handle(connection.lock(), frame).expect("the frame is valid"));
}
