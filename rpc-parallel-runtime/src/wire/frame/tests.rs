use proptest::prelude::*;

use super::*;
use crate::wire::{
    FrameWriter, MAX_FRAGMENT_LEN, MessageWriter, Opened, Settings, Sink, SpanKey, TooLarge,
    Unsent, WrittenBy,
};

const MAX: usize = 100;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn put(bytes: &[u8]) -> impl FnOnce(&mut Sink<'_>) -> Result<(), TooLarge> {
    move |sink| {
        std::io::Write::write_all(sink, bytes).expect("a sink takes everything");
        Ok(())
    }
}

fn opened(number: u64) -> Opened {
    Opened { id: StreamId(number), writer: WrittenBy::Receiver, window: 7 }
}

fn key(number: u64) -> SpanKey {
    SpanKey { process: 1 << 63 | number, span: number }
}

fn limits() -> ReceiveLimits {
    ReceiveLimits::of(&Settings::default().with_max_message_size(2000).with_max_calls(7))
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let message = proptest::collection::vec(any::<u8>(), 0..MAX);
    (0..12, any::<(u64, u64)>(), any::<[u8; 16]>(), message).prop_map(
        |(kind, (call, number), worker, message)| {
            let (call, stream) = (CallId(call), StreamId(call));
            let put = put(&message);
            let greeting = Greeting { fingerprint: number };
            let worker = WorkerId::from_bytes(worker);
            written(|out| {
                let finished = match kind {
                    0 => MessageWriter::call(out, FunctionId(number), MAX).message(put),
                    1 => MessageWriter::answer(out, call, Outcome::Error, MAX)
                        .message(put)
                        .map(|it| it.streams(&[opened(number), opened(7)])),
                    2 => MessageWriter::one_way(out, FunctionId(number), MAX).message(put),
                    3 => MessageWriter::items(out, stream, MAX).message(put),
                    _ => {
                        return match kind {
                            4 => FrameWriter::welcome(out, limits()).finish(),
                            5 => FrameWriter::cancel(out, call).finish(),
                            6 => FrameWriter::stop(out, stream).finish(),
                            7 => FrameWriter::credit(out, stream, 7).finish(),
                            8 => FrameWriter::end(out, stream).message(put).expect("it fits"),
                            9 => FrameWriter::refuse(out).message(put).expect("it fits"),
                            10 => FrameWriter::acknowledge(out).finish(),
                            _ => {
                                let connect = FrameWriter::connect(out, greeting, worker, limits());
                                connect.message(put).expect("it fits");
                            }
                        };
                    }
                };
                assert!(finished.expect("it fits").finish().is_none(), "it is small");
            })
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_frames_or_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((_, len))) = split(&bytes, MAX) {
            prop_assert!(len <= bytes.len());
        }
    }

    #[test]
    fn frames_survive_encoding_and_decoding(frames in proptest::collection::vec(any_frame(), 1..5)) {
        let stream = frames.concat();
        let mut rest = &stream[..];

        for frame in &frames {
            let (_, len) = split(rest, MAX).expect("it was written by us").expect("it is whole");
            prop_assert_eq!(len, frame.len());
            rest = &rest[len..];
        }

        prop_assert!(rest.is_empty());
    }

    #[test]
    fn truncated_frame_is_incomplete(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let received = &frame[..cut.index(frame.len())];

        prop_assert!(matches!(split(received, MAX), Ok(None)));
    }
}

#[test]
fn handshake_frames_keep_limits() {
    let (greeting, worker) = (Greeting { fingerprint: 7 }, WorkerId::from_bytes([7; 16]));
    let connect = written(|out| {
        FrameWriter::connect(out, greeting, worker, limits())
            .message(put(b"init"))
            .expect("it fits");
    });
    let control =
        written(|out| FrameWriter::connect_control(out, greeting, worker, limits()).finish());
    let welcome = written(|out| FrameWriter::welcome(out, limits()).finish());

    let announced = [connect, control, welcome].map(|it| {
        match split(&it, MAX).expect("it is a frame").expect("it is whole").0 {
            Frame::Connect { limits, init, .. } => {
                assert_eq!(init, b"init");
                limits
            }
            Frame::ConnectControl { limits, .. } | Frame::Welcome { limits } => limits,
            frame => panic!("{frame:?}"),
        }
    });

    assert_eq!(announced, [limits(); 3]);
}

#[test]
fn call_keeps_number_function_streams_and_deadline() {
    let mut bytes = written(|out| {
        let writer = MessageWriter::call(out, FunctionId(7), MAX).message(put(b"arguments"));
        assert!(writer.expect("it fits").finish().is_none(), "it is small");
    });
    let mut unsent = Unsent::Small(std::mem::take(&mut bytes));
    let micros = Duration::from_micros(1234);
    unsent.set_call(&[opened(1), opened(3)], CallId(5), Some(micros));
    let Unsent::Small(bytes) = unsent else { panic!("it is small") };

    let (frame, _) = split(&bytes, MAX).expect("it is a frame").expect("it is whole");

    let Frame::Call { call, function, arguments, streams, deadline, spans } = frame else {
        panic!("{frame:?}")
    };
    assert_eq!((call, function, deadline), (CallId(5), FunctionId(7), Some(micros)));
    assert_eq!(arguments.bytes(), b"arguments");
    assert!(streams.iter().eq([opened(1), opened(3)]));
    assert_eq!(spans.iter().count(), 0);
}

#[test]
fn call_keeps_spans_beside_other_fields() {
    let keys = [key(5), key(6), key(7)];
    let mut unsent = Unsent::Small(written(|out| {
        let writer = MessageWriter::call(out, FunctionId(7), MAX).message(put(b"arguments"));
        assert!(writer.expect("it fits").finish().is_none(), "it is small");
    }));
    let micros = Duration::from_micros(1234);
    unsent.set_spans(&keys);
    unsent.set_call(&[opened(1), opened(3)], CallId(5), Some(micros));
    let Unsent::Small(bytes) = unsent else { panic!("it is small") };

    let (frame, len) = split(&bytes, MAX).expect("it is a frame").expect("it is whole");

    let Frame::Call { arguments, streams, deadline, spans, .. } = frame else {
        panic!("{frame:?}")
    };
    assert_eq!(len, bytes.len());
    assert_eq!(arguments.bytes(), b"arguments");
    assert_eq!(deadline, Some(micros));
    assert!(streams.iter().eq([opened(1), opened(3)]));
    assert!(spans.iter().eq(keys));
}

#[test]
fn one_way_call_keeps_spans() {
    let mut unsent = Unsent::Small(written(|out| {
        let writer = MessageWriter::one_way(out, FunctionId(7), MAX).message(put(b"arguments"));
        assert!(writer.expect("it fits").finish().is_none(), "it is small");
    }));
    unsent.set_spans(&[key(5)]);
    unsent.set_one_way(&[opened(1)]);
    let Unsent::Small(bytes) = unsent else { panic!("it is small") };

    let (frame, _) = split(&bytes, MAX).expect("it is a frame").expect("it is whole");

    let Frame::OneWay { arguments, streams, spans, .. } = frame else { panic!("{frame:?}") };
    assert_eq!(arguments.bytes(), b"arguments");
    assert!(streams.iter().eq([opened(1)]));
    assert!(spans.iter().eq([key(5)]));
}

#[test]
fn largest_call_has_room_for_spans() {
    let keys = [7; MAX_SPAN_KEYS].map(key);
    let mut unsent = Unsent::Small(written(|out| {
        let message = put(&[7; SMALLEST_LIMIT]);
        let writer = MessageWriter::call(out, FunctionId(7), SMALLEST_LIMIT).message(message);
        let large = writer.expect("it fits").finish().expect("it is large");
        out.extend(large.into_pieces().1.iter().flatten());
        let length = u32::try_from(out.len()).expect("it is not that large").to_le_bytes();
        out.splice(..0, length);
    }));
    unsent.set_spans(&keys);
    unsent.set_call(&[], CallId(5), Some(Duration::ZERO));
    let Unsent::Small(bytes) = unsent else { panic!("it is small") };

    let (frame, _) = split(&bytes, SMALLEST_LIMIT).expect("it is allowed").expect("it is whole");

    let Frame::Call { arguments, spans, .. } = frame else { panic!("{frame:?}") };
    assert_eq!(arguments.bytes().len(), SMALLEST_LIMIT);
    assert!(spans.iter().eq(keys));
}

#[test]
fn excess_spans_drop_outermost() {
    let mut bytes = written(|out| {
        let writer = MessageWriter::call(out, FunctionId(7), MAX).message(put(b"arguments"));
        assert!(writer.expect("it fits").finish().is_none(), "it is small");
    });
    let mut unsent = Unsent::Small(std::mem::take(&mut bytes));
    unsent.set_spans(&(0..100).map(key).collect::<Vec<_>>());
    let Unsent::Small(bytes) = unsent else { panic!("it is small") };

    let (frame, _) = split(&bytes, 10_000).expect("it is a frame").expect("it is whole");

    let Frame::Call { arguments, spans, .. } = frame else { panic!("{frame:?}") };
    assert_eq!(arguments.bytes(), b"arguments");
    assert!(spans.iter().eq((0..MAX_SPAN_KEYS as u64).map(key)));
}

#[test]
fn large_frame_equals_its_reassembled_fragments() {
    let spliced = bytes::Bytes::from(vec![7; 2 * MAX_FRAGMENT_LEN]);
    let mut buffer = b"before".to_vec();
    let writer = MessageWriter::one_way(&mut buffer, FunctionId(7), usize::MAX);
    let writer = writer.message(|sink| {
        put(b"one")(sink)?;
        sink.write_shared(spliced.clone());
        put(b"two")(sink)
    });
    let large = writer.expect("nothing is too large").finish().expect("it is large");

    let (total, pieces) = large.into_pieces();

    assert_eq!(buffer, b"before");
    let whole = bytes::Bytes::from(pieces.iter().flatten().copied().collect::<Vec<_>>());
    assert_eq!(whole.len(), total as usize);
    let frame = parse(Body::shared(&whole)).expect("it is a frame");
    let Frame::OneWay { function, arguments, .. } = frame else { panic!("{frame:?}") };
    assert_eq!(function, FunctionId(7));
    assert_eq!(arguments.bytes(), [b"one", &spliced[..], b"two"].concat());
}

#[test]
fn length_beyond_limit_is_refused_before_its_bytes_arrive() {
    let announced = u32::MAX.to_le_bytes();

    let refused = split(&announced, MAX).err();

    assert!(matches!(refused, Some(FrameError::TooLarge { size: 0xffff_ffff, .. })), "{refused:?}");
}

#[test]
fn oversized_message_leaves_buffer_unchanged() {
    let mut bytes = b"before".to_vec();

    let refused = MessageWriter::call(&mut bytes, FunctionId(7), MAX).message(put(&[0; 101])).err();

    assert_eq!(refused, Some(TooLarge { size: 101, max: 100 }));
    assert_eq!(bytes, b"before");
}
