//! Sends the message of a call, as soon as its connection has room.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::caller::Hold;
use super::error::{CallErrorKind, MessageKind};
use super::failure::Loss;
use super::in_line::InLine;
use super::pipe::{self, Opening};
use super::shared::Keeper;
use crate::protocol::{Line, Ticket};
use crate::wire::{CallId, FunctionInfo, Unsent};

/// The message of a call, and the pipes in it.
pub(super) struct Message {
    pub(super) frame: Unsent,
    pub(super) opening: Vec<Opening>,
}

/// A call whose message was sent, or is queued.
pub(super) enum Sent {
    Call(CallId, Ticket),
    OneWay(Ticket),
}

/// Why a message was not sent.
pub(super) enum NotSent {
    Lost(Arc<Loss>),
    TooManyPipes { why: String },
}

impl From<NotSent> for CallErrorKind {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::Lost(loss) => (&*loss).into(),
            NotSent::TooManyPipes { why } => {
                Self::Unencodable { message: MessageKind::Arguments, why }
            }
        }
    }
}

/// Sends a message when the connection has room. Takes it only if it was sent.
///
/// If no other call is pending on the connection, the message is written at once.
pub(super) fn poll_send(
    message: &mut Option<Message>,
    function: &'static FunctionInfo,
    deadline: Option<Instant>,
    hold: &Arc<Hold>,
    in_line: &mut Option<Box<InLine>>,
    cx: &Context<'_>,
) -> Poll<Result<Sent, NotSent>> {
    let connection = &hold.0.connection;
    let line = if function.one_way { Line::OneWay } else { Line::Calls };
    let mut locked = ready!(InLine::poll_room(in_line, line, connection, cx));
    if let Some(loss) = locked.lost() {
        return Poll::Ready(Err(NotSent::Lost(loss.clone())));
    }
    let pipes = message.as_ref().map_or(0, |it| it.opening.len());
    if pipes > 0 && !locked.machine.may_open(pipes) {
        locked.machine.give_up_room(line);
        let why = connection.too_many_pipes(&locked);
        return Poll::Ready(Err(NotSent::TooManyPipes { why }));
    }
    let at_once = locked.machine.writes_next_call_at_once();
    let call = match function.one_way {
        true => {
            locked.machine.begin_one_way();
            None
        }
        false => match locked.machine.begin_call(function, cx.waker()) {
            Some(call) => Some(call),
            None => return Poll::Ready(Err(NotSent::Lost(locked.loss()))),
        },
    };
    let Message { mut frame, opening } = message.take().expect("a message is sent only once");
    let (opened, starts) = match opening.is_empty() {
        true => (Vec::new(), Vec::new()),
        false => {
            let keeper: Keeper = hold.clone();
            pipe::open(opening, connection, &mut locked, Some(&keeper))
        }
    };
    let (ticket, transmit) = match call {
        Some(call) => {
            frame.set_call(&opened, call, deadline.map(|it| it - Instant::now()));
            locked.machine.send_call(frame, &opened, at_once)
        }
        None => {
            frame.set_one_way(&opened);
            locked.machine.send_one_way(frame, &opened)
        }
    };
    drop(locked);
    let is_written = transmit.is_some_and(|it| connection.write_now(it));
    starts.into_iter().for_each(|start| start());
    Poll::Ready(Ok(match call {
        Some(call) => Sent::Call(call, ticket),
        None => Sent::OneWay(if is_written { Ticket::Written } else { ticket }),
    }))
}
