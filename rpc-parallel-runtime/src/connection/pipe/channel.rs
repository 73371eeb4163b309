//! A pipe within one process. Either end may be sent to another process later.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::callback::{Abortable, Callback, CloseReason, PipeEvent};
use super::error::{PipeError, PipeErrorKind};
use super::pump;
use super::remote::{Incoming, Outgoing};
use crate::connection::delivery::Flow;

/// The maximum number of elements that are buffered for a reader in this process.
const ROOM: usize = 64;

/// The state that both ends of a pipe share while they are in this process.
///
/// Elements and wakers are dropped after the lock is released: their destructors may use the pipe.
pub(super) struct Channel<T>(Mutex<State<T>>);

struct State<T> {
    queue: VecDeque<T>,
    reader: Reader<T>,
    /// The stream of the writer, after the writer was sent to another process.
    away: Option<Incoming<T>>,
    end: Option<Result<(), PipeErrorKind>>,
    /// The wakers of writers that wait for room, or for the end of the reader.
    waiting: Vec<Waker>,
}

enum Reader<T> {
    Here(Option<Waker>),
    /// A callback. `None` while it runs.
    Callback(Option<Callback<T>>),
    /// The reader was sent to another process.
    Away(Outgoing<T>),
    Gone,
}

/// The result of sending an element.
pub(super) enum Sent<T> {
    Here,
    /// The element was not taken, because the reader is in another process.
    Elsewhere(Outgoing<T>),
}

/// The result of reading a channel.
pub(super) enum Next<T> {
    /// An element, an error or the end.
    Item(Option<Result<T, PipeError>>),
    /// The writer is in another process: read this stream from now on.
    Elsewhere(Incoming<T>),
}

impl<T> Channel<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            queue: VecDeque::new(),
            reader: Reader::Here(None),
            away: None,
            end: None,
            waiting: Vec::new(),
        }))
    }

    /// Returns the next element, or the stream that it comes from.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next<T>> {
        let mut state = self.state();
        if let Some(element) = state.queue.pop_front() {
            let waiting = mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            return Poll::Ready(Next::Item(Some(Ok(element))));
        }
        if let Some(incoming) = state.away.take() {
            return Poll::Ready(Next::Elsewhere(incoming));
        }
        match &mut state.end {
            Some(end) => {
                let error = mem::replace(end, Ok(())).err();
                let error = error.map(|kind| Err(PipeError::new(None, kind)));
                Poll::Ready(Next::Item(error))
            }
            None => {
                let reader = Reader::Here(Some(cx.waker().clone()));
                let replaced = mem::replace(&mut state.reader, reader);
                drop(state);
                drop(replaced);
                Poll::Pending
            }
        }
    }

    /// Ends the pipe, because the writer has ended.
    pub(super) fn end(&self, end: Result<(), PipeErrorKind>) {
        let mut state = self.state();
        match mem::replace(&mut state.reader, Reader::Gone) {
            Reader::Here(waker) => {
                state.reader = Reader::Here(None);
                state.end = Some(end);
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
            Reader::Callback(None) => {
                state.reader = Reader::Callback(None);
                state.end = Some(end);
            }
            Reader::Callback(Some(mut callback)) => {
                drop(state);
                callback.call(PipeEvent::Closed(CloseReason::of(Flow::Continue, end)));
            }
            Reader::Away(outgoing) => {
                drop(state);
                end_outgoing(&outgoing, end);
            }
            Reader::Gone => {}
        }
    }

    /// Closes the pipe, because the reader was dropped.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        let reader = mem::replace(&mut state.reader, Reader::Gone);
        let queue = mem::take(&mut state.queue);
        let (away, waiting) = (state.away.take(), mem::take(&mut state.waiting));
        drop(state);
        drop((reader, queue, away));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until the reader is gone, in this process or in the one to which it was sent.
    pub(super) fn poll_closed(&self, cx: Option<&mut Context<'_>>) -> Poll<()> {
        let mut state = self.state();
        match &state.reader {
            Reader::Gone => Poll::Ready(()),
            Reader::Away(outgoing) => {
                let outgoing = outgoing.clone();
                drop(state);
                match cx {
                    Some(cx) => outgoing.end.poll_closed(cx),
                    None if outgoing.end.is_closed() => Poll::Ready(()),
                    None => Poll::Pending,
                }
            }
            Reader::Here(_) | Reader::Callback(_) => {
                state.wait(cx.as_deref());
                Poll::Pending
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().expect("no thread panics while it holds this lock")
    }
}

impl<T: Send + 'static> Abortable for Channel<T> {
    /// Ends the pipe of a callback, unless the callback is running. In that case
    /// [`put_back`](Self::put_back) ends the pipe.
    fn abort(&self) {
        let mut state = self.state();
        if let Reader::Callback(callback) = &mut state.reader
            && let Some(callback) = callback.take()
        {
            drop(state);
            self.put_back(callback, Flow::Stop);
        }
    }
}

impl<T: Send + 'static> Channel<T> {
    /// Sends an element to the reader, if the reader is in this process and has room.
    pub(super) fn poll_send(
        &self,
        element: &mut Option<T>,
        cx: Option<&Context<'_>>,
    ) -> Poll<Result<Sent<T>, PipeError>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let callback = match &mut state.reader {
            Reader::Away(outgoing) => return Poll::Ready(Ok(Sent::Elsewhere(outgoing.clone()))),
            Reader::Gone => {
                return Poll::Ready(Err(PipeError::new(None, PipeErrorKind::ReaderGone)));
            }
            Reader::Callback(callback) => callback.take(),
            Reader::Here(waker) if state.queue.len() < ROOM => {
                let waker = waker.take();
                state.queue.extend(element.take());
                drop(guard);
                waker.into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(Sent::Here));
            }
            Reader::Here(_) => None,
        };
        let Some(mut callback) = callback else {
            state.wait(cx);
            return Poll::Pending;
        };
        drop(guard);
        let flow =
            element.take().map_or(Flow::Continue, |it| callback.call(PipeEvent::Element(it)));
        self.put_back(callback, flow);
        Poll::Ready(Ok(Sent::Here))
    }

    /// Puts a callback back after it has run.
    fn put_back(&self, mut callback: Callback<T>, flow: Flow) {
        let mut state = self.state();
        // An abort while the callback runs leaves the end of the pipe to this method.
        let flow = if callback.is_aborted() { Flow::Stop } else { flow };
        let (waiting, away) = (mem::take(&mut state.waiting), state.away.take());
        let end = state.end.take();
        if flow == Flow::Continue && away.is_none() && end.is_none() {
            state.reader = Reader::Callback(Some(callback));
            drop(state);
        } else {
            state.reader = Reader::Gone;
            drop(state);
            match away {
                Some(incoming) if flow == Flow::Continue => callback.read(incoming),
                _ => {
                    let end = end.unwrap_or(Ok(()));
                    callback.call(PipeEvent::Closed(CloseReason::of(flow, end)));
                }
            }
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Calls a callback with all buffered elements, and with all elements from then on.
    pub(super) fn read_direct(&self, mut callback: Callback<T>) {
        let replaced = mem::replace(&mut self.state().reader, Reader::Callback(None));
        drop(replaced);
        loop {
            let next = self.state().queue.pop_front();
            let Some(element) = next else { return self.put_back(callback, Flow::Continue) };
            if callback.call(PipeEvent::Element(element)) == Flow::Stop {
                let unread = mem::take(&mut self.state().queue);
                drop(unread);
                return self.put_back(callback, Flow::Stop);
            }
        }
    }

    /// Sends the elements of the writer to another process if the channel is empty. Returns whether
    /// it was empty.
    pub(super) fn send_idle_reader(&self, outgoing: &Outgoing<T>) -> bool {
        let mut state = self.state();
        if !state.queue.is_empty() || state.away.is_some() || state.end.is_some() {
            return false;
        }
        let replaced = mem::replace(&mut state.reader, Reader::Away(outgoing.clone()));
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        drop(replaced);
        waiting.into_iter().for_each(Waker::wake);
        true
    }

    /// Passes the elements that another process writes to the reader.
    pub(super) fn send_writer(&self, incoming: Incoming<T>) {
        let mut state = self.state();
        match &mut state.reader {
            Reader::Here(waker) => {
                let waker = waker.take();
                state.away = Some(incoming);
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
            Reader::Callback(callback) => {
                let callback = callback.take();
                state.away = Some(incoming);
                drop(state);
                // While the callback runs, `put_back` takes the stream afterwards.
                if let Some(callback) = callback {
                    self.put_back(callback, Flow::Continue);
                }
            }
            Reader::Away(outgoing) => {
                let outgoing = outgoing.clone();
                state.reader = Reader::Gone;
                drop(state);
                pump::start(Box::new(incoming), outgoing);
            }
            Reader::Gone => drop(state),
        }
    }
}

impl<T> State<T> {
    fn wait(&mut self, cx: Option<&Context<'_>>) {
        if let Some(cx) = cx
            && !self.waiting.iter().any(|it| it.will_wake(cx.waker()))
        {
            self.waiting.push(cx.waker().clone());
        }
    }
}

/// Ends a stream of a connection in the way in which its writer has ended.
pub(super) fn end_outgoing<T>(outgoing: &Outgoing<T>, end: Result<(), PipeErrorKind>) {
    let error = end.err().map(|kind| PipeError::new(None, kind));
    outgoing.end.end(error.as_ref());
}
