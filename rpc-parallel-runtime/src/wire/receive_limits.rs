//! The limits that each end of a connection announces in the handshake.

use super::frame_error::FrameError;
use super::setting::{Count, Size};
use super::settings::{
    CONNECTION_WINDOW, MAX_CALLS, MAX_MESSAGE_SIZE, MAX_ONE_WAY_CALLS, MAX_PIPES, STREAM_WINDOW,
    Settings,
};

/// The length of announced limits in a frame, in bytes.
pub(super) const RECEIVE_LIMITS_LEN: usize = 4 + 4 + 8 + 4 + 4 + 4;

/// The limits that one end of a connection applies to what it receives. The other end keeps to
/// them.
///
/// Only workers receive calls, so the limits of calls that a caller announces have no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReceiveLimits {
    pub(crate) max_message_size: usize,
    pub(crate) stream_window: usize,
    pub(crate) connection_window: usize,
    pub(crate) max_calls: u32,
    pub(crate) max_one_way_calls: u32,
    pub(crate) max_pipes: u32,
}

impl ReceiveLimits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            max_message_size: settings.max_message_size(),
            stream_window: settings.stream_window(),
            connection_window: settings.connection_window(),
            max_calls: settings.max_calls(),
            max_one_way_calls: settings.max_one_way_calls(),
            max_pipes: settings.max_pipes(),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; RECEIVE_LIMITS_LEN] {
        let size =
            |bytes| u32::try_from(bytes).expect("the size is within the range of its setting");
        let mut bytes = [0; RECEIVE_LIMITS_LEN];
        bytes[..4].copy_from_slice(&size(self.max_message_size).to_le_bytes());
        bytes[4..8].copy_from_slice(&size(self.stream_window).to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.connection_window as u64).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.max_calls.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.max_one_way_calls.to_le_bytes());
        bytes[24..].copy_from_slice(&self.max_pipes.to_le_bytes());
        bytes
    }

    /// Reads the limits that a peer has announced.
    ///
    /// # Errors
    ///
    /// A limit is out of the range of its setting.
    pub(crate) fn from_bytes(bytes: &[u8; RECEIVE_LIMITS_LEN]) -> Result<Self, FrameError> {
        let u32_at = |at| u32::from_le_bytes(std::array::from_fn(|it| bytes[at + it]));
        let window = u64::from_le_bytes(std::array::from_fn(|it| bytes[8 + it]));
        Ok(Self {
            max_message_size: size(&MAX_MESSAGE_SIZE, u32_at(0).into())?,
            stream_window: size(&STREAM_WINDOW, u32_at(4).into())?,
            connection_window: size(&CONNECTION_WINDOW, window)?,
            max_calls: count(&MAX_CALLS, u32_at(16))?,
            max_one_way_calls: count(&MAX_ONE_WAY_CALLS, u32_at(20))?,
            max_pipes: count(&MAX_PIPES, u32_at(24))?,
        })
    }
}

fn size(setting: &Size, value: u64) -> Result<usize, FrameError> {
    let size = usize::try_from(value).ok().filter(|it| setting.allows(*it));
    size.ok_or(FrameError::Limit { limit: setting.field, value })
}

fn count(setting: &Count, value: u32) -> Result<u32, FrameError> {
    match setting.allows(value) {
        true => Ok(value),
        false => Err(FrameError::Limit { limit: setting.field, value: value.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_limits_survive_encoding_and_decoding() {
        let largest = ReceiveLimits {
            max_message_size: MAX_MESSAGE_SIZE.max,
            stream_window: STREAM_WINDOW.max,
            connection_window: CONNECTION_WINDOW.max,
            max_calls: MAX_CALLS.max,
            max_one_way_calls: MAX_ONE_WAY_CALLS.max,
            max_pipes: MAX_PIPES.max,
        };

        for limits in [ReceiveLimits::of(&Settings::default()), largest] {
            assert_eq!(ReceiveLimits::from_bytes(&limits.to_bytes()), Ok(limits));
        }
    }

    #[test]
    fn limit_out_of_range_is_refused_by_name() {
        let valid = ReceiveLimits::of(&Settings::default()).to_bytes();
        let fields = [
            ("max_message_size", 0..4),
            ("stream_window", 4..8),
            ("connection_window", 8..16),
            ("max_calls", 16..20),
            ("max_one_way_calls", 20..24),
            ("max_pipes", 24..28),
        ];

        for (limit, field) in fields {
            for (byte, value) in [(0, 0), (0xff, u64::MAX >> (64 - 8 * field.len()))] {
                let mut bytes = valid;
                bytes[field.clone()].fill(byte);
                let refused = ReceiveLimits::from_bytes(&bytes);
                assert_eq!(refused, Err(FrameError::Limit { limit, value }));
            }
        }
    }
}
