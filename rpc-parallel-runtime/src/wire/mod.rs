//! What travels between two processes, as values and as bytes.
//!
//! Nothing here waits or touches a socket: every item is a plain function of
//! its input, so the whole layer is tested without a runtime.

mod error_text;
mod id;
mod content_hash;
mod declaration;
mod messagepack;
mod byte_buffer;
mod guard;
mod argument;
mod codec;
#[cfg(feature = "pool")]
mod item;
#[cfg(feature = "pool")]
mod item_number;
mod sink;
mod field;
mod body;
mod value_len;
#[cfg(any(test, fuzzing))]
mod fuzz_input;
mod stream;
mod span_key;
mod fragment;
mod frame_error;
mod quantity;
mod setting;
mod busy_poll;
mod settings;
mod receive_limits;
mod frame;
mod frame_writer;
mod refusal;
mod greeting;
mod label;
mod overrides;
mod signature;

pub use self::argument::{Argument, Message, Travels};
pub use self::body::Body;
pub(crate) use self::body::may_keep;
pub use self::busy_poll::BusyPoll;
pub(crate) use self::codec::own_codec;
pub use self::codec::{Codec, codec};
#[cfg(feature = "pool")]
pub(crate) use self::codec::{decode_all, encoded_codec};
pub(crate) use self::content_hash::ContentHash;
pub(crate) use self::declaration::worker_type_id;
pub use self::declaration::{FunctionInfo, SourceLocation, WorkerTrait, assert_distinct};
pub(crate) use self::error_text::{debug_as_display, new_causes, write_chain};
pub use self::field::MalformedMessage;
pub(crate) use self::field::{Field, Unread, fields, read_message, write_message};
pub(crate) use self::fragment::{MAX_FRAGMENT_LEN, TransferId};
pub(crate) use self::frame::{
    CallId, Frame, Outcome, find_cancels, is_of_transfer, largest_frame, parse, split,
    split_partial,
};
pub use self::frame_error::FrameError;
pub(crate) use self::frame_writer::{
    FrameWriter, Large, MessageWriter, Unsent, append_items, write_fragment_header,
};
#[cfg(any(test, fuzzing))]
pub(crate) use self::fuzz_input::{FuzzInput, fuzz_frame};
pub use self::greeting::{Greeting, GreetingError};
pub use self::id::{FunctionId, ParseWorkerIdError, WorkerId, WorkerTypeId};
#[cfg(feature = "pool")]
pub use self::item::{ItemError, ItemReader};
pub use self::label::WorkerLabel;
pub(crate) use self::label::host_name;
pub use self::messagepack::{DecodeError, Decoder, EncodeError};
pub(crate) use self::messagepack::{decode, encode, strip_tuple_len, write_tuple_len};
pub(crate) use self::overrides::Overrides;
pub(crate) use self::receive_limits::ReceiveLimits;
pub use self::refusal::{PanicReport, Refusal};
pub(crate) use self::refusal::{shorten, shorten_list};
pub use self::setting::SettingsError;
pub(crate) use self::settings::LARGEST_WINDOW;
pub use self::settings::Settings;
pub(crate) use self::signature::Signature;
pub use self::sink::{Sink, TooLarge};
#[cfg(feature = "tracing")]
pub(crate) use self::span_key::MAX_SPAN_KEYS;
#[cfg(any(feature = "tracing", test))]
pub(crate) use self::span_key::SpanKey;
pub(crate) use self::span_key::SpanKeys;
pub(crate) use self::stream::{Opened, StreamId, Streams, WrittenBy};
pub(crate) use self::value_len::values_len;

/// Decodes bytes as frames, and the messages in them as values.
#[cfg(fuzzing)]
pub(crate) fn decode_everything(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((frame, len))) = split(rest, 1024) {
        match frame {
            Frame::Refuse { refusal } => drop(read_message::<Refusal>(refusal)),
            Frame::Introduce { functions } => drop(read_message::<Vec<Signature>>(functions)),
            _ => {}
        }
        if let Frame::Call { arguments, .. } = frame {
            let _ = decode::<(String, Vec<u8>, Option<(u64, f32)>)>(arguments.bytes());
        }
        rest = &rest[len..];
    }
}
