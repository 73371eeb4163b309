//! The frames of a multiplexed stream.
//!
//! ```text
//! kind:1 channel:4 number:4 bytes..
//! ```
//!
//! The number is the length of the bytes of a data frame, and the credit of a credit frame.

/// The length of the header of a frame, in bytes.
pub(super) const HEADER_LEN: usize = 9;

/// The maximum number of bytes in a data frame.
pub(super) const MAX_DATA: usize = 16 * 1024;

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Header {
    /// This many bytes of the channel follow.
    Data { channel: u32, len: usize },
    /// The sender accepts this many more bytes of the channel.
    Credit { channel: u32, bytes: usize },
    /// The sender neither sends nor accepts more bytes of the channel.
    End { channel: u32 },
}

/// The peer has sent bytes that are no frame, or more than it may send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MultiplexError {
    #[error("found no worker in the first {0} bytes of the stream")]
    NoPreamble(usize),
    #[error("expected a frame of kind 1 to 3 on the stream, found kind {0}")]
    UnknownKind(u8),
    #[error("a frame of {0} bytes exceeds {MAX_DATA} bytes")]
    TooLong(usize),
    #[error("the peer exceeded the flow-control window of channel {0}")]
    WindowExceeded(u32),
    #[error("the peer opened more than {0} channels")]
    TooManyChannels(usize),
}

const DATA: u8 = 1;
const CREDIT: u8 = 2;
const END: u8 = 3;

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let (kind, channel, number) = match self {
            Self::Data { channel, len } => (DATA, channel, len),
            Self::Credit { channel, bytes } => (CREDIT, channel, bytes),
            Self::End { channel } => (END, channel, 0),
        };
        let number = u32::try_from(number).expect("windows and frames are small");
        let mut header = [kind; HEADER_LEN];
        header[1..5].copy_from_slice(&channel.to_le_bytes());
        header[5..].copy_from_slice(&number.to_le_bytes());
        header
    }

    /// Decodes the header at the beginning of the bytes. Returns `None` if it is incomplete.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, MultiplexError> {
        let Some([kind, c0, c1, c2, c3, n0, n1, n2, n3]) = bytes.first_chunk() else {
            return Ok(None);
        };
        let channel = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
        let number = u32::from_le_bytes([*n0, *n1, *n2, *n3]) as usize;
        Ok(Some(match *kind {
            DATA if number > MAX_DATA => return Err(MultiplexError::TooLong(number)),
            DATA => Self::Data { channel, len: number },
            CREDIT => Self::Credit { channel, bytes: number },
            END => Self::End { channel },
            kind => return Err(MultiplexError::UnknownKind(kind)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_header_or_an_error(bytes in any::<[u8; HEADER_LEN]>()) {
            if let Ok(Some(Header::Data { len, .. })) = Header::decode(&bytes) {
                prop_assert!(len <= MAX_DATA);
            }
        }
    }

    #[test]
    fn header_reads_back_as_written() {
        for header in [
            Header::Data { channel: 7, len: MAX_DATA },
            Header::Credit { channel: 0, bytes: 1 << 20 },
            Header::End { channel: u32::MAX },
        ] {
            let bytes = header.encode();

            assert!(matches!(Header::decode(&bytes), Ok(Some(it)) if it == header), "{header:?}");
            assert!(matches!(Header::decode(&bytes[..8]), Ok(None)), "{header:?}");
        }
    }
}
