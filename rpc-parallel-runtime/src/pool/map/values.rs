//! Decodes the results of a map.

use std::marker::PhantomData;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::error::{DeathReason, MapError, MapErrorKind};
use super::function::{FunctionErrorOf, Output as Value};
use super::pieces::Pieces;
use super::setup::Setup;
use crate::connection::AnyError;
use crate::pool::engine::Output as Piece;
use crate::wire::{Body, ItemReader, Refusal, read_message};
use crate::worker::Declares;

/// The results of a map of the function `F`.
pub(super) struct Values<C, F> {
    pieces: Pieces,
    of: PhantomData<fn() -> (C, F)>,
}

/// One result with its index, or one error.
pub(super) type Item<C, F> = Result<(u64, Value<C, F>), MapError<FunctionErrorOf<C, F>>>;

impl<C: Declares<F>, F> Values<C, F> {
    pub(super) fn new(setup: Setup) -> Self {
        Self { pieces: Pieces::new(setup), of: PhantomData }
    }

    /// Returns the setup, to change its options.
    ///
    /// # Panics
    ///
    /// Panics if the map was polled.
    pub(super) fn setup(&mut self) -> &mut Setup {
        let function = C::FUNCTION.name();
        self.pieces.setup().unwrap_or_else(|| {
            panic!("the options of a map of `{function}` were set after it was polled")
        })
    }

    /// Decodes the next piece and calls `each` with its items. Returns `false` at the end.
    pub(super) fn poll_piece(
        &mut self,
        mut each: impl FnMut(Item<C, F>),
        cx: &mut Context<'_>,
    ) -> Poll<bool> {
        match ready!(self.pieces.poll_next(cx)) {
            Some(Ok(Piece::Values { first_index, count, bytes })) => {
                decode::<C, F>((first_index, count), &bytes, each);
            }
            Some(Ok(piece)) => each(Err(error_of::<C, F>(piece, self.pieces.timeout()))),
            Some(Err(end)) => each(Err(MapError::of_map(C::FUNCTION.name(), end))),
            None => return Poll::Ready(false),
        }
        Poll::Ready(true)
    }
}

fn decode<C: Declares<F>, F>(
    (first, count): (u64, u32),
    bytes: &Bytes,
    mut each: impl FnMut(Item<C, F>),
) {
    let mut reader = ItemReader::new(Body::shared(bytes));
    for index in first..first + u64::from(count) {
        each(match (C::ANSWER.value.decode_item)(&mut reader) {
            Ok(value) => Ok((index, value)),
            Err(error) => {
                let why = AnyError::from(error).to_string();
                Err(MapError::of_item(C::FUNCTION.name(), index, MapErrorKind::Message { why }))
            }
        });
    }
}

/// Returns the error of an item that has no result.
pub(super) fn error_of<C: Declares<F>, F>(
    piece: Piece<DeathReason>,
    timeout: Duration,
) -> MapError<FunctionErrorOf<C, F>> {
    let index = piece.first_index();
    let kind = match piece {
        Piece::Failed { bytes, .. } => function_error::<C, F>(&bytes),
        piece => error_without_function(piece, timeout),
    };
    MapError::of_item(C::FUNCTION.name(), index, kind)
}

/// Returns the error of an item whose function did not return an error.
pub(super) fn error_without_function<E>(
    piece: Piece<DeathReason>,
    timeout: Duration,
) -> MapErrorKind<E> {
    match piece {
        Piece::Refused { bytes, .. } => match read_message(&bytes) {
            Ok(Refusal::Panicked(panic)) => MapErrorKind::Panicked(panic),
            Ok(refusal) => MapErrorKind::Message { why: refusal.to_string() },
            Err(error) => MapErrorKind::Message { why: AnyError::from(error).to_string() },
        },
        Piece::Died { attempts, reason: Some(last), .. } => {
            MapErrorKind::WorkerDied { attempts, last }
        }
        Piece::Died { attempts, reason: None, .. } => MapErrorKind::WorkerEnded { attempts },
        Piece::TimedOut { .. } => MapErrorKind::TimedOut { after: timeout },
        Piece::Values { .. } | Piece::Failed { .. } => {
            let why = "the worker sent an unexpected result".to_owned();
            MapErrorKind::Message { why }
        }
    }
}

/// Decodes the error that the function returned.
fn function_error<C: Declares<F>, F>(bytes: &Bytes) -> MapErrorKind<FunctionErrorOf<C, F>> {
    let Some(codec) = C::ANSWER.error else {
        let why = "the worker sent an error of a function that returns none".to_owned();
        return MapErrorKind::Message { why };
    };
    match (codec.decode_item)(&mut ItemReader::new(Body::shared(bytes))) {
        Ok(error) => MapErrorKind::Function(error),
        Err(error) => MapErrorKind::Message { why: AnyError::from(error).to_string() },
    }
}
