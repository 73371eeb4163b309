//! The tests that every transport passes.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::BufWriter;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::byte_stream::byte_stream;
use super::fault::Fault;
use super::halves::{Halves, Reader, Writer};
use super::memory;
use super::socket::split;
use super::unix::connected_pair;
use crate::wire::BusyPoll;

/// Runs every test with each transport.
macro_rules! suite {
    ($([$($test:ident),* $(,)?] $transport:ident)*) => {
        $(mod $transport {
            $(#[tokio::test]
            async fn $test() {
                let test = super::$test(super::$transport().await);
                super::soon(test).await;
            })*
        })*
    };
    (tests $tests:tt transports $($transport:ident),* $(,)?) => {
        suite! { $($tests $transport)* }
    };
}

suite! {
    tests [
        transport_carries_more_than_its_buffer,
        both_directions_work_at_the_same_time,
        segments_arrive_in_order,
        read_fills_buffers_in_order,
        late_message_is_received,
        task_that_waits_is_woken_after_others_have_read,
        peer_reads_end_after_close,
        close_wakes_local_reader,
        reader_ends_after_close,
        write_after_close_fails,
        write_to_dropped_peer_fails,
        full_writer_is_woken_by_room,
        full_writer_is_woken_by_dropped_peer,
        flushed_bytes_arrive_without_further_call,
    ]
    transports
        unix_socket,
        polled_unix_socket,
        adaptively_polled_unix_socket,
        memory_pair,
        pipe_pair,
        buffered_pipe_pair,
        tcp_loopback,
}

async fn unix_socket() -> (Halves, Halves) {
    socket_pair(BusyPoll::Never)
}

async fn polled_unix_socket() -> (Halves, Halves) {
    socket_pair(BusyPoll::For(Duration::from_millis(1)))
}

async fn adaptively_polled_unix_socket() -> (Halves, Halves) {
    socket_pair(BusyPoll::Auto)
}

fn socket_pair(busy_poll: BusyPoll) -> (Halves, Halves) {
    let (here, there) = connected_pair().expect("make two sockets");
    let halves = |socket| split(socket, busy_poll).expect("register a socket");
    (halves(here), halves(there))
}

async fn memory_pair() -> (Halves, Halves) {
    let ((here_in, here_out), (there_in, there_out)) = memory::pair(10_000);
    ((Box::new(here_in), Box::new(here_out)), (Box::new(there_in), Box::new(there_out)))
}

async fn pipe_pair() -> (Halves, Halves) {
    let (here_out, there_in) = pipe::pipe().expect("make a pipe");
    let (there_out, here_in) = pipe::pipe().expect("make a pipe");
    (byte_stream(here_in, here_out), byte_stream(there_in, there_out))
}

/// A stream that passes bytes on only when it is flushed, as TLS does.
async fn buffered_pipe_pair() -> (Halves, Halves) {
    let (here_out, there_in) = pipe::pipe().expect("make a pipe");
    let (there_out, here_in) = pipe::pipe().expect("make a pipe");
    let [here_out, there_out] = [here_out, there_out].map(BufWriter::new);
    (byte_stream(here_in, here_out), byte_stream(there_in, there_out))
}

async fn tcp_loopback() -> (Halves, Halves) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on a port");
    let address = listener.local_addr().expect("the listener has a port");
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (here_in, here_out) = here.expect("connect to a listener").into_split();
    let (there_in, there_out) = there.expect("accept a connection").0.into_split();
    (byte_stream(here_in, here_out), byte_stream(there_in, there_out))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("it takes no time")
}

/// Byte `index` of a long stream.
fn byte(index: usize) -> u8 {
    (index % 251) as u8
}

fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(byte).collect()
}

/// Writes all bytes, and flushes them.
async fn write_all(writer: &dyn Writer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match writer.try_write(&[IoSlice::new(bytes)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if Fault::of(&error) == Fault::NotReady => {
                poll_fn(|cx| writer.poll_writable(cx)).await.expect("the transport is open");
            }
            Err(error) => panic!("{error}"),
        }
    }
    poll_fn(|cx| writer.poll_flush(cx)).await.expect("the transport is open");
}

/// Reads at most `len` bytes at once.
async fn read(reader: &mut dyn Reader, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let len = poll_fn(|cx| reader.poll_read(cx, &mut [IoSliceMut::new(&mut buffer)])).await?;
    buffer.truncate(len);
    Ok(buffer)
}

/// Reads at most one byte without waiting.
fn try_read(reader: &mut dyn Reader) -> io::Result<usize> {
    reader.try_read(&mut [IoSliceMut::new(&mut [0])])
}

/// Reads `len` bytes, or fewer up to the end of the stream.
async fn read_exact(reader: &mut dyn Reader, len: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < len {
        let more = read(reader, len - received.len()).await.expect("the transport is open");
        if more.is_empty() {
            break;
        }
        received.extend(more);
    }
    received
}

/// Writes until the transport has no room, and returns the number of written bytes.
async fn fill(writer: &dyn Writer) -> usize {
    let mut written = 0;
    loop {
        match writer.try_write(&[IoSlice::new(&[7; 1000])]) {
            Ok(len) => written += len,
            Err(error) if Fault::of(&error) == Fault::NotReady => {
                let full = poll_fn(|cx| Poll::Ready(writer.poll_writable(cx).is_pending()));
                if full.await {
                    return written;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes until that fails, and returns the class of the error.
async fn write_until_error(writer: &dyn Writer) -> Fault {
    loop {
        match writer.try_write(&[IoSlice::new(b"hello")]) {
            // TCP notices only by a write that its peer does not read any more.
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => return Fault::of(&error),
        }
    }
}

async fn transport_carries_more_than_its_buffer((here, there): (Halves, Halves)) {
    const LEN: usize = 5_000_000;
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);

    let writing = async {
        write_all(&*here_out, &bytes(0..LEN)).await;
        here_out.close();
    };
    let (received, ()) = tokio::join!(read_exact(&mut *there_in, LEN + 1), writing);

    assert!(received == bytes(0..LEN), "the bytes arrive unchanged");
}

async fn both_directions_work_at_the_same_time((here, there): (Halves, Halves)) {
    const LEN: usize = 1_000_000;
    let ((mut here_in, here_out), (mut there_in, there_out)) = (here, there);
    let sent = bytes(0..LEN);

    let (here, there, (), ()) = tokio::join!(
        read_exact(&mut *here_in, LEN),
        read_exact(&mut *there_in, LEN),
        write_all(&*here_out, &sent),
        write_all(&*there_out, &sent),
    );

    assert!(here == sent && there == sent, "the bytes arrive unchanged");
}

async fn segments_arrive_in_order((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);
    let sent = bytes(0..100_000);

    let writing = async {
        let mut written = 0;
        while written < sent.len() {
            let rest = &sent[written..];
            let (first, rest) = rest.split_at(rest.len().min(7));
            let (second, third) = rest.split_at(rest.len() / 2);
            match here_out.try_write(&[first, &[], second, third].map(IoSlice::new)) {
                Ok(len) => written += len,
                Err(_) => {
                    poll_fn(|cx| here_out.poll_writable(cx)).await.expect("the peer is there");
                }
            }
        }
        poll_fn(|cx| here_out.poll_flush(cx)).await.expect("the peer is there");
    };
    let (received, ()) = tokio::join!(read_exact(&mut *there_in, sent.len()), writing);

    assert!(received == sent, "the bytes arrive in their order");
}

async fn read_fills_buffers_in_order((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);
    write_all(&*here_out, &bytes(0..10)).await;

    let mut received = Vec::new();
    while received.len() < 10 {
        let (mut first, mut second) = ([0; 4], [0; 100]);
        let len = poll_fn(|cx| {
            let buffers = &mut [&mut [][..], &mut first, &mut second].map(IoSliceMut::new);
            there_in.poll_read(cx, buffers)
        });
        let len = len.await.expect("the peer is there");
        received.extend([&first[..], &second].concat().drain(..len));
    }

    assert_eq!(received, bytes(0..10));
}

async fn late_message_is_received((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);

    for _ in 0..100 {
        let writing = async {
            tokio::task::yield_now().await;
            write_all(&*here_out, b"hello").await;
        };
        let (received, ()) = tokio::join!(read_exact(&mut *there_in, 5), writing);
        assert_eq!(received, b"hello");
    }
}

/// Reads in between, as a thread does that looks for an answer.
async fn task_that_waits_is_woken_after_others_have_read((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);
    let nothing = try_read(&mut *there_in).expect_err("nothing was written");
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    let mut received = 0;

    for _ in 0..20 {
        poll_fn(|cx| {
            let read = there_in.poll_read(cx, &mut [IoSliceMut::new(&mut [0])]);
            received += read.map(|it| it.expect("the transport is open")).is_ready() as usize;
            Poll::Ready(())
        })
        .await;
        write_all(&*here_out, b"hello").await;
        received += (0..3).filter(|_| try_read(&mut *there_in).is_ok()).count();
    }
    let rest = read_exact(&mut *there_in, 20 * 5 - received).await;

    assert_eq!(rest.len(), 20 * 5 - received);
}

async fn peer_reads_end_after_close((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);
    write_all(&*here_out, b"hello").await;

    here_out.close();

    assert_eq!(read_exact(&mut *there_in, 100).await, b"hello");
    assert_eq!(read(&mut *there_in, 100).await.expect("the end is no error"), b"");
}

async fn close_wakes_local_reader((here, _there): (Halves, Halves)) {
    let (mut here_in, here_out) = here;

    let mut reading = pin!(read(&mut *here_in, 100));
    let waits = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
    here_out.close();

    assert!(waits, "nothing was sent");
    assert_eq!(reading.await.expect("the end is no error"), b"");
}

async fn reader_ends_after_close((here, there): (Halves, Halves)) {
    let ((mut here_in, here_out), (_there_in, there_out)) = (here, there);
    write_all(&*there_out, b"hello").await;

    here_out.close();

    // The bytes may have been on their way.
    let received = read_exact(&mut *here_in, 100).await;
    assert!(received == b"hello" || received.is_empty(), "{received:?}");
}

async fn write_after_close_fails((here, _there): (Halves, Halves)) {
    let (_here_in, here_out) = here;

    here_out.close();

    assert_eq!(write_until_error(&*here_out).await, Fault::PeerGone);
}

async fn write_to_dropped_peer_fails((here, there): (Halves, Halves)) {
    let (_here_in, here_out) = here;

    drop(there);

    assert_eq!(write_until_error(&*here_out).await, Fault::PeerGone);
}

async fn full_writer_is_woken_by_room((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);

    for _ in 0..3 {
        let written = fill(&*here_out).await;
        let writing = async {
            poll_fn(|cx| here_out.poll_writable(cx)).await.expect("the peer is there");
            poll_fn(|cx| here_out.poll_flush(cx)).await.expect("the peer is there");
        };

        let (received, ()) = tokio::join!(read_exact(&mut *there_in, written), writing);

        assert_eq!(received.len(), written);
    }
}

async fn full_writer_is_woken_by_dropped_peer((here, there): (Halves, Halves)) {
    let (_here_in, here_out) = here;
    fill(&*here_out).await;

    drop(there);
    let woken = poll_fn(|cx| here_out.poll_writable(cx)).await;

    let class = woken.err().map_or(Fault::PeerGone, |it| Fault::of(&it));
    assert_eq!(class, Fault::PeerGone);
    assert_eq!(write_until_error(&*here_out).await, Fault::PeerGone);
}

/// The task that has polled the writer last flushes the bytes that other tasks have written.
async fn flushed_bytes_arrive_without_further_call((here, there): (Halves, Halves)) {
    let ((_here_in, here_out), (mut there_in, _there_out)) = (here, there);
    let flushing = poll_fn(|cx| {
        let _ = here_out.poll_flush(cx).map(|it| it.expect("the peer is there"));
        Poll::<()>::Pending
    });

    let writing = async {
        tokio::task::yield_now().await;
        here_out.try_write(&[IoSlice::new(b"hello")]).expect("there is room");
        read_exact(&mut *there_in, 5).await
    };
    let received = tokio::select! {
        () = flushing => unreachable!("it is never ready"),
        received = writing => received,
    };

    assert_eq!(received, b"hello");
}
