//! One-way calls on a runtime of several threads.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::answering::Session;
use super::calls::{Arrived, QueuedCall, Unfinished, answer_later, diagnose_failure};
use super::counted::Counted;
use super::scope::LazyScope;
use super::shared::Connection;
use super::task::task;
use super::traffic::CountedCall;

/// The queue of one-way calls of a connection, which begin in the order of their arrival.
pub(super) struct OneWayQueue(UnboundedSender<OneWay>);

impl OneWayQueue {
    pub(super) fn start(session: &Arc<dyn Session>, connection: &Arc<Connection>) -> Self {
        // The queue is bounded by the `max_one_way_calls` of the connection.
        let (sender, one_ways) = unbounded_channel();
        // The task ends with the queue, when the connection ends.
        tokio::spawn(task(answer_all(one_ways, session.clone(), connection.clone())));
        Self(sender)
    }

    pub(super) fn add(&self, arrived: Arrived<'_>, in_flight: CountedCall) {
        let mut arrived = arrived;
        let counted = Counted::one_way(in_flight, arrived.one_way.take());
        let _ = self.0.send(OneWay { queued: QueuedCall::new(arrived), counted });
    }
}

/// A one-way call that has not begun.
struct OneWay {
    queued: QueuedCall,
    counted: Counted,
}

/// Begins one-way calls one after the other, so that they begin in the order in which they were
/// sent.
async fn answer_all(
    mut one_ways: UnboundedReceiver<OneWay>,
    session: Arc<dyn Session>,
    connection: Arc<Connection>,
) {
    let mut running = JoinSet::new();
    while let Some(OneWay { queued, counted }) = one_ways.recv().await {
        while running.try_join_next().is_some() {}
        let function = queued.function;
        let (mut scope, mut buffer) = (LazyScope::new(None), Vec::new());
        let begun = queued.begin(&*session, &connection, &mut scope, &mut buffer);
        let (begun, follow_up) = begun.await;
        if let Some(refusal) = &follow_up.failed {
            diagnose_failure(&*session, function, refusal);
        }
        if let Some((rest, span)) = begun {
            let rest = Unfinished::new(rest, span, counted);
            let (session, connection) = (session.clone(), connection.clone());
            running.spawn(answer_later(None, function, None, rest, session, connection));
        }
    }
    // One-way calls run to completion, also after the end of the connection.
    running.detach_all();
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use tokio::runtime::Builder;

    use super::*;
    use crate::connection::ends::OwnedEnd;
    use crate::connection::scripted::{Functions, function};
    use crate::connection::shared::Peer;
    use crate::connection::spans::Callers;
    use crate::connection::traffic::Traffic;
    use crate::connection::{PipeError, PipeErrorKind};
    use crate::transport::Reader;
    use crate::transport::memory::pair;
    use crate::wire::{Body, Frame, FunctionInfo, ReceiveLimits, Settings, WrittenBy, split};

    const NOTE: &FunctionInfo = &function("note").one_way();

    #[test]
    fn one_way_call_dropped_in_queue_ends_its_pipe_with_error() {
        let runtime = Builder::new_current_thread().build().expect("a runtime without drivers");
        let entered = runtime.enter();
        let ((_, writer), (mut reader, _keep_open)) = pair(1024);
        let (settings, traffic) = (Settings::default(), Traffic::here());
        let limits = ReceiveLimits::of(&settings);
        let connection =
            Connection::new(Peer::Caller, settings, &limits, traffic, Box::new(writer));
        let connection = Arc::new(connection);
        let session: Arc<dyn Session> = Arc::new(Functions::default());
        let (_, end) = {
            let mut locked = connection.lock();
            OwnedEnd::open(&connection, &mut locked, WrittenBy::Sender, None, None)
        };
        let arrived = Arrived {
            call: None,
            function: NOTE.id(),
            arguments: Body::of(&[0xc0]),
            ends: vec![end],
            deadline: None,
            callers: Callers::of(Default::default()),
            one_way: None,
        };

        OneWayQueue::start(&session, &connection).add(arrived, traffic.call_begins());
        drop(entered);
        drop(runtime);

        let mut buffer = [0; 100];
        let read = reader.try_read(&mut [IoSliceMut::new(&mut buffer)]);
        let len = read.expect("the end of the pipe is written");
        let frame = split(&buffer[..len], 1024).expect("the frame is valid");
        let Some((Frame::End { error, .. }, _)) = frame else { panic!("{frame:?}") };
        let end = PipeError::of_frame(error, None).map_err(|it| it.kind().clone());
        assert_eq!(end, Err(PipeErrorKind::Cancelled));
    }
}
