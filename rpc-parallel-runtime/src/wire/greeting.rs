//! The greeting: it identifies the protocol version and the build of a connecting process.

use super::id::hash_fields;

/// The protocol version. It changes whenever an older peer would misread the frames of a newer one.
const PROTOCOL: u16 = 4;

const MAGIC: [u8; 4] = *b"rpcp";

/// The length of a greeting in bytes: magic, protocol version, a reserved `u16`, fingerprint.
pub(super) const GREETING_LEN: usize = 16;

/// The greeting that a connecting process sends with its request. Its bytes identify rpc-parallel,
/// the protocol version and the build of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Greeting {
    pub(crate) fingerprint: u64,
}

/// A connecting process sent no greeting of this protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// The peer is not an rpc-parallel process.
    #[error("the peer does not use the rpc-parallel protocol")]
    Foreign,
    /// The peer uses another version of the protocol.
    #[error("expected protocol version {PROTOCOL}, found version {0}")]
    Version(u16),
}

impl Greeting {
    /// Creates the greeting of a build. Its fingerprint is a hash of `build`.
    pub(crate) fn new(build: &[&str]) -> Self {
        Self { fingerprint: hash_fields(build) }
    }

    pub(crate) fn to_bytes(self) -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&PROTOCOL.to_le_bytes());
        bytes[8..].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; GREETING_LEN]) -> Result<Self, GreetingError> {
        let [m0, m1, m2, m3, p0, p1, _, _, fingerprint @ ..] = *bytes;
        let protocol = u16::from_le_bytes([p0, p1]);
        if [m0, m1, m2, m3] != MAGIC {
            Err(GreetingError::Foreign)
        } else if protocol != PROTOCOL {
            Err(GreetingError::Version(protocol))
        } else {
            Ok(Self { fingerprint: u64::from_le_bytes(fingerprint) })
        }
    }
}
