//! The pieces of a map's results, not decoded yet.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::error::{DeathReason, MapEnd};
use super::output::{Consumed, Next, Output};
use super::setup::Setup;
use crate::pool::engine::Output as Piece;

/// The pieces of a map. The first poll starts the map, dropping cancels it.
pub(super) struct Pieces {
    /// `None` after the first poll.
    setup: Option<Box<Setup>>,
    output: Arc<Output>,
    /// The last piece, which the next poll reports as consumed.
    consumed: Consumed,
    timeout: Option<Duration>,
    is_ended: bool,
}

impl Pieces {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup: Some(Box::new(setup)),
            output: Output::new(),
            consumed: Consumed::default(),
            timeout: None,
            is_ended: false,
        }
    }

    /// Returns the setup, to change its options. Returns `None` after the first poll.
    pub(super) fn setup(&mut self) -> Option<&mut Setup> {
        self.setup.as_deref_mut()
    }

    /// Returns the timeout of one item.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or_default()
    }

    /// Returns the next piece, or why the map ended early. Returns `None` at the end.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece<DeathReason>, MapEnd>>> {
        if let Some(setup) = self.setup.take() {
            self.timeout = setup.options.timeout;
            setup.start(self.output.clone());
        }
        if self.is_ended {
            return Poll::Ready(None);
        }
        let consumed = std::mem::take(&mut self.consumed);
        Poll::Ready(match ready!(self.output.poll_next(consumed, cx)) {
            Next::Piece(piece) => {
                self.consumed = Consumed { items: piece.count().into(), bytes: piece.len() };
                Some(Ok(piece))
            }
            Next::End(end) => {
                self.is_ended = true;
                end.err().map(Err)
            }
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.setup.is_none() && !self.is_ended {
            self.output.cancel();
        }
    }
}
