//! One-way calls on a runtime of several threads.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::answering::{Answering, Session};
use super::calls::{Arrived, Unfinished, answer_later, begin, diagnose_failure};
use super::counted::Counted;
use super::ends::OwnedEnd;
use super::received_one_way::ReceivedOneWay;
use super::scope::LazyScope;
use super::shared::Connection;
use super::spans::Callers;
use super::task::task;
use super::traffic::CountedCall;
use crate::wire::{Body, FunctionId};

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
        let Arrived { function, arguments, ends, callers, one_way: received, .. } = arrived;
        let arguments = arguments.keep();
        let _ = self.0.send(OneWay { function, arguments, ends, callers, in_flight, received });
    }
}

/// A one-way call that has not begun.
struct OneWay {
    function: FunctionId,
    arguments: Bytes,
    ends: Vec<OwnedEnd>,
    callers: Callers,
    in_flight: CountedCall,
    received: Option<ReceivedOneWay>,
}

/// Begins one-way calls one after the other, so that they begin in the order in which they were
/// sent.
async fn answer_all(
    mut one_ways: UnboundedReceiver<OneWay>,
    session: Arc<dyn Session>,
    connection: Arc<Connection>,
) {
    let mut running = JoinSet::new();
    while let Some(one_way) = one_ways.recv().await {
        let OneWay { function, arguments, ends, callers, in_flight, received } = one_way;
        while running.try_join_next().is_some() {}
        let mut buffer = Vec::new();
        let mut given = Some((ends, callers));
        let begun = poll_fn(|cx| {
            let mut answering = Answering::new(None, &connection, &mut buffer);
            let arguments = Body::shared(&arguments);
            let (ends, callers) = given.take().expect("the future is ready in its first poll");
            let (call, deadline) = (None, None);
            let one_way = None;
            let arrived = Arrived { call, function, arguments, ends, deadline, callers, one_way };
            let mut scope = LazyScope::new(None);
            let begun = begin(&*session, arrived, &mut scope, cx, &mut answering);
            Poll::Ready((begun, answering.into_follow_up()))
        });
        let (begun, follow_up) = begun.await;
        if let Some(refusal) = &follow_up.failed {
            diagnose_failure(&*session, function, refusal);
        }
        if let Some((rest, span)) = begun {
            let rest = Unfinished::new(rest, span, Counted::one_way(in_flight, received));
            let (session, connection) = (session.clone(), connection.clone());
            running.spawn(answer_later(None, function, None, rest, session, connection));
        }
    }
    // One-way calls run to completion, also after the end of the connection.
    running.detach_all();
}
