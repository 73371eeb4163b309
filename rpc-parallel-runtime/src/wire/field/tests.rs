use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::{PanicReport, Refusal};

const MAX: usize = 1 << 20;

fn encoded<T: Field>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = Sink::new(&mut bytes, MAX);
    write_message(message, &mut sink);
    sink.finish().expect("the messages of these tests are short");
    bytes
}

#[derive(Clone, PartialEq, Debug)]
struct Everything {
    numbers: Vec<(u8, u64)>,
    negative: i32,
    word: Option<String>,
    path: PathBuf,
    time: Duration,
    boxed: Box<bool>,
    choice: Choice,
}

#[derive(Clone, PartialEq, Debug)]
enum Choice {
    Nothing,
    Size(usize),
    Names { first: String, others: Vec<String> },
}

fields!(struct Everything { numbers, negative, word, path, time, boxed, choice });
fields!(enum Choice { 0 => Nothing, 1 => Size(size), 7 => Names { first, others } });

impl<A: Field, B: Field> Field for (A, B) {
    fn write(&self, sink: &mut Sink<'_>) {
        self.0.write(sink);
        self.1.write(sink);
    }

    fn read(unread: &mut Unread<'_>) -> Result<Self, MalformedMessage> {
        Ok((A::read(unread)?, B::read(unread)?))
    }
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Nothing),
        any::<usize>().prop_map(Choice::Size),
        any::<(String, Vec<String>)>().prop_map(|(first, others)| Choice::Names { first, others }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    let plain = any::<(Vec<(u8, u64)>, i32, Option<String>, Vec<u8>, Duration, bool)>();
    (plain, choice()).prop_map(|((numbers, negative, word, path, time, boxed), choice)| {
        let path = OsString::from_vec(path).into();
        Everything { numbers, negative, word, path, time, boxed: Box::new(boxed), choice }
    })
}

proptest! {
    #[test]
    fn messages_survive_encoding_and_decoding(message in everything()) {
        prop_assert_eq!(read_message(&encoded(&message)), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let with_version = [&[VERSION], &bytes[..]].concat();
        for bytes in [bytes, with_version] {
            let _ = read_message::<Everything>(&bytes);
            let _ = read_message::<Refusal>(&bytes);
        }
    }

    #[test]
    fn truncated_messages_fail(message in everything(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&message);

        let decoded = read_message::<Everything>(&bytes[..cut.index(bytes.len())]);

        prop_assert!(decoded.is_err(), "{decoded:?}");
    }

    #[test]
    fn trailing_bytes_fail(message in everything(), more in 1..10_usize) {
        let mut bytes = encoded(&message);
        let len = bytes.len();
        bytes.resize(len + more, 0);

        let error = read_message::<Everything>(&bytes).expect_err("there are bytes after the end");

        prop_assert_eq!(error.problem, Problem::Trailing(more));
    }
}

#[test]
fn lengths_beyond_the_message_fail_without_allocation() {
    for len in [5_u32, 1 << 20, u32::MAX] {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(b"1234");

        let errors = [
            read_message::<String>(&bytes).expect_err("the text is too short"),
            read_message::<PathBuf>(&bytes).expect_err("the path is too short"),
            read_message::<Vec<u8>>(&bytes).expect_err("the list is too short"),
            read_message::<Vec<Everything>>(&bytes).expect_err("the list is too short"),
        ];

        for error in errors {
            assert_eq!(error.problem, Problem::Short(len as usize, 4));
        }
    }
}

#[test]
fn other_versions_fail_with_both_numbers() {
    for version in [0, 2, 255] {
        let mut bytes = encoded(&7_u32);
        bytes[0] = version;

        let error = read_message::<u32>(&bytes).expect_err("the version is another one");

        let expected = format!(
            "malformed message of 5 bytes: expected version 1, found version {version} (at byte 1)"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn values_outside_of_their_type_fail() {
    let problem = |error: MalformedMessage| error.problem;

    let number = read_message::<bool>(&[VERSION, 2]).map_err(problem);
    let tag = read_message::<Choice>(&[VERSION, 2]).map_err(problem);
    let text = read_message::<String>(&[VERSION, 1, 0, 0, 0, 0xff]).map_err(problem);
    let nanos = encoded(&(1_u64, 1_000_000_000_u32));
    let time = read_message::<Duration>(&nanos).map_err(problem);

    assert_eq!(number, Err(Problem::Range("bool")));
    assert_eq!(tag, Err(Problem::Tag { of: "Choice", tag: 2 }));
    assert_eq!(text, Err(Problem::Text));
    assert_eq!(time, Err(Problem::Range("nanoseconds")));
}

#[test]
fn messages_beyond_the_limit_are_counted_and_not_kept() {
    let mut bytes = Vec::new();
    let mut sink = Sink::new(&mut bytes, 100);

    write_message(&Refusal::Init { why: "x".repeat(1000) }, &mut sink);

    assert_eq!(sink.finish().map(|_| ()).map_err(|it| it.size), Err(1006));
    assert!(bytes.len() <= 100);
}

#[test]
fn bytes_of_a_message_are_as_documented() {
    let panic = PanicReport { message: "oh".to_owned(), location: None, backtrace: None };

    let bytes = encoded(&Refusal::Panicked(panic));

    assert_eq!(bytes, b"\x01\x00\x02\x00\x00\x00oh\x00\x00");
}

#[test]
fn tags_of_an_enum_are_distinct() {
    // A duplicate tag would make its second variant unreachable.
    let all = [
        Choice::Nothing,
        Choice::Size(1),
        Choice::Names { first: String::new(), others: Vec::new() },
    ];
    let tags: BTreeMap<_, _> = all.into_iter().map(|it| (encoded(&it)[1], it)).collect();

    assert_eq!(tags.keys().copied().collect::<Vec<_>>(), [0, 1, 7]);
}
