//! The message of a call that is sent to several workers: it is encoded once.

use super::answer::{Answer, CallFailure};
use super::call::{Call, EncodedCall, encode_call};
use super::client::Client;
use super::error::{CallErrorKind, MessageKind};
use crate::wire::{EncodeError, FunctionInfo, Sink, TooLarge, Unsent};

/// The encoded message of calls to several workers. The calls share a large message.
pub(crate) struct SharedCall {
    function: &'static FunctionInfo,
    message: Result<Unsent, CallErrorKind>,
}

impl SharedCall {
    /// Encodes the message. `max` is the largest `max_message_size` of the workers.
    ///
    /// If the message cannot be encoded, each of the calls fails.
    pub(crate) fn new(
        function: &'static FunctionInfo,
        max: usize,
        write_arguments: impl FnOnce(&mut Sink<'_>) -> Result<(), EncodeError>,
    ) -> Self {
        let encoded = encode_call(function, max, write_arguments);
        let message = encoded.and_then(|(message, opening)| match &opening[..] {
            [] => Ok(message.share()),
            _ => Err(CallErrorKind::Unencodable {
                message: MessageKind::Arguments,
                why: "a pipe cannot be sent to several workers".to_owned(),
            }),
        });
        Self { function, message }
    }

    pub(crate) fn function(&self) -> &'static FunctionInfo {
        self.function
    }

    /// Makes the call of one worker. `answer` must be that of the function.
    pub(crate) fn call<R, T, E: CallFailure>(
        &self,
        client: &Client,
        answer: Answer<R, T, E>,
    ) -> Call<T, E> {
        let max = client.max_message_size();
        let message = self.message.clone().and_then(|message| match message.message_len() {
            size if size > max => Err(CallErrorKind::TooLarge {
                message: MessageKind::Arguments,
                too_large: TooLarge { size, max },
            }),
            _ => Ok((message, Vec::new())),
        });
        EncodedCall::of_message(self.function, answer, message).route(client)
    }
}
