//! Connections over a transport that keeps written bytes until they are flushed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::peer::welcome;
use super::{join, settings, soon};
use crate::connection::call::Call;
use crate::connection::scripted::{call, function};
use crate::connection::{Client, Opening, ProcessAccess, encode_request};
use crate::transport::{Halves, byte_stream};
use crate::wire::{FunctionInfo, Greeting, WorkerId, WorkerLabel};

const NOTE: &FunctionInfo = &function("note").one_way();

/// More than a pipe holds, and less than a pipe and the transport together hold.
const LEN: usize = 100_000;

/// Connects a transport to the ends of two pipes, from which and to which a test reads and writes.
fn pipes() -> (Halves, pipe::Receiver, pipe::Sender) {
    let (here_out, there_in) = pipe::pipe().expect("make a pipe");
    let (there_out, here_in) = pipe::pipe().expect("make a pipe");
    (byte_stream(here_in, here_out), there_in, there_out)
}

fn request(init: &[u8]) -> Vec<u8> {
    encode_request(WorkerId::random(), Greeting::new(&[]), init, settings())
        .expect("the request is within its limit")
}

#[tokio::test]
async fn large_request_reaches_peer() {
    let (halves, mut received, mut sending) = pipes();
    let mut opening = Opening::new(halves, settings());
    let request = request(&[7; LEN]);
    let sent = request.clone();

    let connecting = tokio::spawn(async move { opening.connect(&request).await });
    let mut read = vec![0; sent.len()];
    soon("the request", received.read_exact(&mut read)).await.expect("the pipe is open");
    sending.write_all(&welcome(settings())).await.expect("the pipe has room");

    join("the handshake", connecting).await.expect("the peer accepts");
    assert!(read == sent);
}

#[tokio::test]
async fn last_message_of_closed_connection_reaches_peer() {
    let (halves, mut received, mut sending) = pipes();
    sending.write_all(&welcome(settings())).await.expect("the pipe has room");
    let mut opening = Opening::new(halves, settings());
    opening.connect(&request(&[])).await.expect("the peer accepts");
    let (worker_type, host) = ("Scripted".to_owned(), "here".to_owned());
    let label = WorkerLabel { name: None, worker_type, pid: None, host };
    let client = Client::begin(opening, WorkerId::random(), label, ProcessAccess::none());
    let note: Call<()> = call(&client, NOTE, vec![7_u8; LEN]);

    soon("the call", note).await.expect("the transport takes the message");
    client.close();
    drop(client);

    let mut read = Vec::new();
    soon("the end", received.read_to_end(&mut read)).await.expect("the pipe is readable");
    assert!(read.len() > LEN, "{} bytes of the message are missing", LEN - read.len());
}
