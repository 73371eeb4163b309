//! The items thread of a worker: it serves the connections for the items of maps.
//!
//! So results leave and orders are heard while a function computes on the worker's own runtime. The
//! items thread runs no user code.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Poll, ready};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::flavor::{RuntimeFlavor, block_on};
use super::runtime_command::NewConnection;
use super::thread::start_thread;
use crate::connection::{Opening, diagnose};
use crate::wire::{BusyPoll, Settings};
use crate::worker::connection_task;

/// Sends connections to the items thread. The thread ends when it is dropped.
pub(super) struct ItemsThread {
    // It has no bound: each element is a connection that the master has opened.
    connections: UnboundedSender<NewConnection>,
}

impl ItemsThread {
    /// Starts the thread.
    pub(super) fn start(settings: Settings) -> io::Result<Self> {
        let (connections, received) = unbounded_channel();
        start_thread("rpc-parallel items", Box::new(move || run(received, settings)))?;
        Ok(Self { connections })
    }

    /// Lets the thread serve a connection. If the thread has ended, the connection is closed.
    fn serve(&self, connection: NewConnection) {
        let _ = self.connections.send(connection);
    }
}

/// Lets the items thread serve a connection. Starts the thread, if it has not been started.
pub(super) fn serve_items(
    thread: &mut Option<ItemsThread>,
    connection: NewConnection,
    settings: Settings,
) -> io::Result<()> {
    let thread = match thread {
        Some(thread) => thread,
        None => thread.insert(ItemsThread::start(settings)?),
    };
    thread.serve(connection);
    Ok(())
}

fn run(mut received: UnboundedReceiver<NewConnection>, settings: Settings) {
    match RuntimeFlavor::CurrentThread.build() {
        Ok(runtime) => block_on(&runtime, pin!(serve(&mut received, settings))),
        Err(error) => diagnose(format_args!("failed to make the runtime of maps: {error}")),
    }
}

/// Serves connections until no more can arrive.
async fn serve(received: &mut UnboundedReceiver<NewConnection>, settings: Settings) {
    let mut connections = JoinSet::new();
    let mut next = async || {
        poll_fn(|cx| {
            while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
            let Some(connection) = ready!(received.poll_recv(cx)) else {
                return Poll::Ready(false);
            };
            // Items take longer than a wake-up, and polling would take the core of their worker.
            match connection.open(BusyPoll::Never) {
                Ok(halves) => {
                    connections.spawn(connection_task(Opening::new(halves, settings)));
                }
                Err(error) => {
                    diagnose(format_args!("failed to open a connection for items: {error}"));
                }
            }
            Poll::Ready(true)
        })
        .await
    };
    while next().await {}
}
