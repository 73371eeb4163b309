//! How the workers of a pool are prepared: those it starts with, and those that are added later.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::PoolError;
use crate::connection::AnyError;
use crate::master::PreparedSpawn;
use crate::wire::{Settings, TooLarge};

/// Prepares the start of the worker with this index.
#[derive(Clone)]
pub(super) struct Template(Arc<Prepare>);

type Prepare = dyn Fn(usize) -> Result<PreparedSpawn, PoolError> + Send + Sync;

impl Template {
    pub(super) fn new(
        prepare: impl Fn(usize) -> Result<PreparedSpawn, PoolError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(prepare))
    }

    pub(super) fn prepare(&self, index: usize) -> Result<PreparedSpawn, PoolError> {
        (self.0)(index)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

/// The arguments of `init` of the workers of a pool.
pub(super) enum Init {
    /// All workers have this encoded argument. The error is the text of the encoder's error.
    Same(Result<Bytes, String>),
    /// Encodes the argument of the worker with this index.
    Each(Box<EncodeEach>),
}

type EncodeEach = dyn Fn(usize, Settings) -> Result<Bytes, String> + Send + Sync;

impl Init {
    /// Returns the encoded argument for a worker with these settings.
    pub(super) fn encode(&self, index: usize, settings: Settings) -> Result<Bytes, String> {
        match self {
            Self::Same(init) => match (init.clone()?, settings.max_message_size()) {
                (init, max) if init.len() > max => {
                    let too_large = TooLarge { size: init.len(), max };
                    Err(AnyError::from(too_large).to_string())
                }
                (init, _) => Ok(init),
            },
            Self::Each(encode) => encode(index, settings),
        }
    }
}
