//! Opens transports to one peer.

use std::io;
use std::pin::Pin;

use super::halves::Halves;

/// The future of a transport that is being opened. Dropping it closes the transport.
pub(crate) type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Halves>> + Send + 'a>>;

/// Opens transports to one peer. The implementation knows its address.
pub(crate) trait Dial: Send + Sync {
    /// Opens a transport.
    ///
    /// # Errors
    ///
    /// `NotFound` means that the peer does not exist any more.
    fn dial(&self) -> Dialing<'_>;
}
