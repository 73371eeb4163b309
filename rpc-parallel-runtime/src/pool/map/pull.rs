//! Pulls items from a source and encodes them, side by side, into the message of a batch.

use std::marker::PhantomData;
use std::task::{Context, Poll};

use super::error::MapEnd;
use super::function::Input;
use super::source::Items;
use crate::connection::{AnyError, catch};
use crate::wire::ItemError;
use crate::worker::{Arguments, Declares};

/// A source of encoded items.
pub(super) trait Pull: Send {
    /// Appends encoded items to the message, within these limits.
    fn pull(&mut self, limits: Limits, message: &mut Vec<u8>, cx: &mut Context<'_>) -> Pulled;

    /// Returns the number of items that are left: at least this number, and whether it is exact.
    fn remaining(&self) -> (u64, bool);
}

/// The limits of one [`Pull::pull`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) items: u32,
    /// The size of the message, in bytes, at which no further item is appended.
    pub(super) bytes: usize,
    /// The largest size of one encoded item, in bytes.
    pub(super) item: usize,
}

/// What [`Pull::pull`] has appended, and what follows.
pub(super) struct Pulled {
    pub(super) count: u32,
    pub(super) then: Then,
}

/// What follows the items that were pulled.
pub(super) enum Then {
    /// Possibly more items.
    More,
    /// The source has no item yet, and will wake the task.
    Pending,
    /// An item that cannot be encoded.
    Unencodable { why: String },
    /// Nothing.
    End(Result<(), MapEnd>),
}

/// The source of a map of the function `F`.
pub(super) struct TypedPull<C, F, I> {
    items: I,
    of: PhantomData<fn(C, F)>,
}

impl<C, F, I> TypedPull<C, F, I> {
    pub(super) fn new(items: I) -> Self {
        Self { items, of: PhantomData }
    }
}

/// The reason why one item was not appended.
struct Unencodable(String);

impl From<ItemError> for Unencodable {
    fn from(error: ItemError) -> Self {
        Self(AnyError::from(error).to_string())
    }
}

impl<C, F, I> Pull for TypedPull<C, F, I>
where
    C: Declares<F>,
    F: 'static,
    I: Items<Input<C, F>>,
{
    fn pull(&mut self, limits: Limits, message: &mut Vec<u8>, cx: &mut Context<'_>) -> Pulled {
        let mut count = 0;
        // Iterators, streams and `Serialize` implementations are code of the user.
        let pulled = catch(|| {
            while count < limits.items && message.len() < limits.bytes {
                let item = match self.items.poll_next(cx) {
                    Poll::Ready(Some(Ok(item))) => item,
                    Poll::Ready(Some(Err(error))) => return Then::End(Err(MapEnd::Source(error))),
                    Poll::Ready(None) => return Then::End(Ok(())),
                    Poll::Pending => return Then::Pending,
                };
                let start = message.len();
                match encode::<C, F>(&item, message, limits.item) {
                    Ok(()) => count += 1,
                    Err(Unencodable(why)) => {
                        message.truncate(start);
                        return Then::Unencodable { why };
                    }
                }
            }
            Then::More
        });
        let then = pulled.unwrap_or_else(|panic| Then::End(Err(MapEnd::SourcePanicked(panic))));
        Pulled { count, then }
    }

    fn remaining(&self) -> (u64, bool) {
        let (least, most) = self.items.size_hint();
        (least as u64, most == Some(least))
    }
}

#[inline(always)]
fn encode<C: Declares<F>, F>(
    item: &Input<C, F>,
    message: &mut Vec<u8>,
    max: usize,
) -> Result<(), Unencodable> {
    match C::CODECS.encode_item(C::Codecs::borrow(item), message, max) {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
