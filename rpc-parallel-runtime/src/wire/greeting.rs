//! The greeting: what two processes tell each other before anything else.

use super::id::hash_fields;

/// Changes whenever an older peer would misread what we write.
const PROTOCOL: u16 = 2;

const MAGIC: [u8; 4] = *b"rpcp";

/// Magic, protocol, a reserved `u16`, fingerprint.
pub(super) const GREETING_LEN: usize = 16;

/// The first bytes of every connection: who speaks, which protocol, which build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Greeting {
    pub(crate) fingerprint: u64,
}

/// The first bytes of a connection are not ours, or not of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// The peer is not an rpc-parallel process.
    #[error("the peer does not speak the protocol of rpc-parallel")]
    Foreign,
    /// The peer speaks another version.
    #[error("the peer speaks version {0} of the protocol, this process version {PROTOCOL}")]
    Version(u16),
}

impl Greeting {
    /// Makes the greeting of a build from what tells it from others.
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
        let signature = u16::from_le_bytes([p0, p1]);
        if [m0, m1, m2, m3] != MAGIC {
            Err(GreetingError::Foreign)
        } else if signature != PROTOCOL {
            Err(GreetingError::Version(signature))
        } else {
            Ok(Self { fingerprint: u64::from_le_bytes(fingerprint) })
        }
    }
}
