//! The streams that a message opens, as they travel in its frame.

use super::frame_error::FrameError;

/// Identifies a stream on its connection. Ids are never reused. The connecting side allocates odd
/// ids, the accepting side even ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct StreamId(pub(crate) u64);

/// A stream that a message opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    pub(crate) id: StreamId,
    pub(crate) writer: WrittenBy,
    /// The flow-control window in bytes: how many may be in flight before the reader has read them.
    pub(crate) window: u32,
}

/// The side that writes a stream; the other side reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum WrittenBy {
    /// The sender of the message that opens the stream.
    Sender = 0,
    /// The receiver of that message.
    Receiver = 1,
}

/// The length of one opened stream in a frame, in bytes.
pub(super) const OPENED_LEN: usize = 8 + 1 + 4;

/// The encoded streams that a message opens.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Streams<'a>(&'a [u8]);

impl<'a> Streams<'a> {
    pub(super) fn parse(list: &'a [u8]) -> Result<Self, FrameError> {
        let wrong = list.chunks(OPENED_LEN).map(|it| it[8]).find(|it| *it > 1);
        match wrong {
            Some(value) => Err(FrameError::Unknown { what: "writer of a stream", value }),
            None => Ok(Self(list)),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Opened> + 'a {
        let (streams, _) = self.0.as_chunks::<OPENED_LEN>();
        streams.iter().map(|it| {
            let [i0, i1, i2, i3, i4, i5, i6, i7, writer, window @ ..] = *it;
            Opened {
                id: StreamId(u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7])),
                writer: if writer == 0 { WrittenBy::Sender } else { WrittenBy::Receiver },
                window: u32::from_le_bytes(window),
            }
        })
    }
}

impl Opened {
    pub(super) fn to_bytes(self) -> [u8; OPENED_LEN] {
        let mut bytes = [0; OPENED_LEN];
        bytes[..8].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[8] = self.writer as u8;
        bytes[9..].copy_from_slice(&self.window.to_le_bytes());
        bytes
    }
}
