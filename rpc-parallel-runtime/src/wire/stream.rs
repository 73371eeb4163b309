//! How a message says which streams it opens.

use super::frame::FrameError;

/// Numbers a stream on its connection, for ever. Who connected uses odd numbers, who was connected
/// to even ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StreamId(pub(crate) u64);

/// A stream that a message opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    pub(crate) id: StreamId,
    pub(crate) writer: WrittenBy,
    /// How many bytes may be on their way before the reader has read them.
    pub(crate) window: u32,
}

/// Who writes a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum WrittenBy {
    /// Who sends the message that opens it.
    Sender = 0,
    /// Who receives that message.
    Receiver = 1,
}

/// How long one of them is in a frame.
pub(super) const ONE_LEN: usize = 8 + 1 + 4;

/// The streams that a message opens, as they stand in its frame.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Streams<'a>(&'a [u8]);

impl<'a> Streams<'a> {
    pub(super) fn parse(list: &'a [u8]) -> Result<Self, FrameError> {
        let wrong = list.chunks(ONE_LEN).map(|it| it[8]).find(|it| *it > 1);
        match wrong {
            Some(value) => Err(FrameError::Unknown { what: "writer of a stream", value }),
            None => Ok(Self(list)),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Opened> + 'a {
        let (streams, _) = self.0.as_chunks::<ONE_LEN>();
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
    pub(super) fn to_bytes(self) -> [u8; ONE_LEN] {
        let mut bytes = [0; ONE_LEN];
        bytes[..8].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[8] = self.writer as u8;
        bytes[9..].copy_from_slice(&self.window.to_le_bytes());
        bytes
    }
}
