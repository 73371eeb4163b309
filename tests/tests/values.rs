//! Values arrive unchanged, for all kinds of types that serde supports.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::{CString, OsString};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, Wrapping};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rpc_parallel::error::{CallErrorKind, MessageKind};
use rpc_parallel::expert::WorkerAddress;
use rpc_parallel::prelude::*;
use rpc_parallel::{WorkerFailure, WorkerId, WorkerLabel};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use serde::{Deserialize, Serialize};

/// Declares a worker that returns its argument and the argument's `Debug` output, and a test for each
/// type.
macro_rules! values {
    ($($(#[$attribute:meta])* $name:ident: $type:ty = [$($value:expr),* $(,)?];)*) => {
        #[rpc_parallel::worker]
        trait Values {
            $(async fn $name(&self, value: $type) -> (String, $type);)*
        }

        #[derive(Default, WorkerState)]
        struct EchoWorker;

        #[rpc_parallel::worker]
        impl Values for EchoWorker {
            $(async fn $name(&self, value: $type) -> (String, $type) {
                (format!("{value:?}"), value)
            })*
        }

        mod round_trips {
            use super::*;

            $(
                $(#[$attribute])*
                #[rpc_parallel::test]
                async fn $name() {
                    let client = EchoWorker::spawn_ok(()).await;
                    let values: Vec<$type> = vec![$($value),*];
                    for value in values {
                        let expected = format!("{value:?}");

                        let (seen, returned) = client.$name(value).await.expect("the call succeeds");

                        assert_eq!(seen, expected, "received by the worker");
                        assert_eq!(format!("{returned:?}"), expected, "returned by the worker");
                    }
                }
            )*
        }
    };
}

values! {
    unit: () = [()];
    booleans: bool = [false, true];
    small_numbers: (u8, i8, u16, i16) = [(0, 0, 0, 0), (255, -128, u16::MAX, i16::MIN), (128, -1, 256, -129)];
    numbers: (u32, i32, u64, i64) = [
        (u32::MAX, i32::MIN, u64::MAX, i64::MIN),
        (1 << 31, i32::MAX, 1 << 63, i64::MAX),
    ];
    large_numbers: (u128, i128) = [(0, 0), (u128::MAX, i128::MIN), (1 << 64, -1 << 64), (7, i128::MAX)];
    floats: (f32, f64) = [
        (0.0, -0.0),
        (f32::NAN, f64::NAN),
        (f32::INFINITY, f64::NEG_INFINITY),
        (f32::MIN_POSITIVE, f64::MIN_POSITIVE / 2.0),
        (0.1, 0.1),
        (f32::MAX, f64::MAX),
    ];
    characters: char = ['a', '\0', 'ß', '\u{10FFFF}'];
    strings: String = [
        String::new(),
        "zero \0, quotes \" and \u{1F980}".into(),
        "x".repeat(31),
        "x".repeat(32),
        "x".repeat(255),
        "x".repeat(65536),
    ];
    shared_strings: (Box<str>, Cow<'static, str>) = [("a".into(), "b".into())];
    options: Option<u8> = [None, Some(0), Some(255)];
    options_in_options: Option<Option<u8>> = [None, Some(Some(7))];
    results: Result<u8, String> = [Ok(7), Err("seven".into())];
    tuples: (u8, (String, (bool, Option<char>))) = [(1, ("two".into(), (true, Some('3'))))];
    long_tuples: (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8) =
        [(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)];
    arrays: ([u32; 32], [u8; 0], [[i8; 2]; 3], [String; 1]) =
        [([7; 32], [], [[1, -1], [2, -2], [3, -3]], ["a".into()])];
    bytes: Vec<u8> = [vec![], vec![0, 127, 128, 255], (0..100_000).map(|it| it as u8).collect()];
    boxed_bytes: Box<[u8]> = [vec![1, 2, 255].into()];
    lists_of_bytes: Vec<Vec<u8>> = [vec![], vec![vec![], vec![255, 0]]];
    lists: Vec<u32> = [vec![], vec![0, u32::MAX], (0..70_000).collect()];
    queues: VecDeque<Option<u16>> = [VecDeque::from([None, Some(300)])];
    sets: (BTreeSet<String>, HashSet<u64>) = [(BTreeSet::from(["b".into(), "a".into()]), HashSet::from([7]))];
    maps: BTreeMap<String, Vec<i32>> = [BTreeMap::new(), BTreeMap::from([("a".into(), vec![-1])])];
    maps_with_tuples_as_keys: BTreeMap<(u8, u8), bool> =
        [BTreeMap::from([((1, 2), true), ((2, 1), false)])];
    maps_with_numbers_as_keys: BTreeMap<i128, u8> = [BTreeMap::from([(i128::MIN, 1), (-1, 2), (7, 3)])];
    maps_with_options_as_keys: BTreeMap<Option<char>, u8> = [BTreeMap::from([(None, 1), (Some('a'), 2)])];
    maps_with_lists_as_keys: HashMap<Vec<u8>, ()> = [HashMap::from([(vec![1, 2], ())])];
    maps_with_variants_as_keys: BTreeMap<Plain, u8> =
        [BTreeMap::from([(Plain::Unit, 1), (Plain::Tuple(1, 2), 2), (Plain::Newtype("x".into()), 3)])];
    paths: PathBuf = ["".into(), "/var/tmp/a b".into(), "ünlüsch".into()];
    system_strings: OsString = ["".into(), "a\u{1F980}".into()];
    strings_of_c: CString = [c"as bytes".into()];
    durations: Duration = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    times: SystemTime = [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123)];
    addresses: (IpAddr, SocketAddr) = [
        ([127, 0, 0, 1].into(), "[::1]:80".parse().expect("the address is valid")),
    ];
    wrapped_numbers: (NonZeroU8, Wrapping<i8>, Range<u8>) = [(NonZeroU8::MAX, Wrapping(-1), 3..7)];
    structs: Named = [Named { first: 1, second: "two".into() }];
    structs_without_fields: (UnitStruct, NoFields, Newtype, Tuple) =
        [(UnitStruct, NoFields {}, Newtype(7), Tuple(7, "x".into()))];
    variants: Vec<Plain> = [vec![
        Plain::Unit,
        Plain::Newtype("x".into()),
        Plain::Tuple(1, 2),
        Plain::Struct { first: None, second: vec![1] },
        Plain::Empty {},
    ]];
    skipped_fields: Skipping = [
        Skipping { a: None, b: Some(7), c: 0, d: 9 },
        Skipping { a: Some(1), b: None, c: 3, d: 9 },
        Skipping { a: None, b: None, c: 0, d: 9 },
    ];
    renamed_fields: Renamed = [Renamed { some_number: 7, some_text: "x".into() }];
    transparent_structs: Transparent = [Transparent(vec![1, 2])];
    flattened_structs: Flat = [Flat {
        id: 7,
        rest: Rest { bytes: vec![1, 255], nested: Some(Named { first: 1, second: "two".into() }) },
        others: BTreeMap::from([("one".into(), 1), ("two".into(), -2)]),
    }];
    untagged_variants: Vec<Untagged> = [vec![
        Untagged::Number(-7),
        Untagged::Float(0.5),
        Untagged::Text("x".into()),
        Untagged::Bytes(vec![0, 255]),
        Untagged::Named { bytes: vec![1], text: None },
        Untagged::Unit,
    ]];
    internally_tagged_variants: Vec<Internal> = [vec![
        Internal::Unit,
        Internal::Struct { number: 7, bytes: vec![255] },
        Internal::Newtype(Named { first: 1, second: "two".into() }),
    ]];
    adjacently_tagged_variants: Vec<Adjacent> = [vec![
        Adjacent::Unit,
        Adjacent::Struct { number: 7, bytes: vec![255] },
        Adjacent::Newtype(vec![1, 2]),
        Adjacent::Tuple(1, "x".into()),
    ]];
    values_of_another_format: serde_json::Value = [
        serde_json::json!({"a": [1, -2.5, null, true], "b": {"c": "d"}}),
        serde_json::json!(18_446_744_073_709_551_615_u64),
    ];
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    first: u8,
    second: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct UnitStruct;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NoFields {}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tuple(u8, String);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum Plain {
    Unit,
    Newtype(String),
    Tuple(u8, u8),
    Struct { first: Option<u8>, second: Vec<u8> },
    Empty {},
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b: Option<i32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    c: u8,
    #[expect(dead_code, reason = "`Debug` reads it")]
    #[serde(skip, default = "nine")]
    d: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn nine() -> u8 {
    9
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
struct Renamed {
    some_number: u8,
    #[serde(rename = "another name", alias = "too")]
    some_text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent(Vec<u8>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    rest: Rest,
    #[serde(flatten)]
    others: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rest {
    bytes: Vec<u8>,
    nested: Option<Named>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Named { bytes: Vec<u8>, text: Option<String> },
    Unit,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    Struct { number: u32, bytes: Vec<u8> },
    Newtype(Named),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Adjacent {
    Unit,
    Struct { number: u32, bytes: Vec<u8> },
    Newtype(Vec<u8>),
    Tuple(u8, String),
}

/// Functions with values that serde or MessagePack cannot represent in every case.
#[rpc_parallel::worker]
trait EdgeCases {
    fn nested_option(&self, value: Option<Option<u8>>) -> String;
    fn nothing(&self, value: Option<()>) -> String;
    fn large_inside(&self, value: FlatLarge) -> String;
    fn address_inside(&self, value: FlatAddress) -> String;
    fn handles(&self, handles: WrappedHandles) -> WrappedHandles;
    fn abort(&self);
    fn path(&self, path: &Path) -> PathBuf;
    fn list(&self, value: List) -> usize;
    fn make_list(&self, depth: usize) -> List;
    async fn send_list_to_worker(&self, depth: usize) -> Result<usize, AnyError>;
    fn tree(&self, value: serde_json::Value) -> bool;
    fn references(&self, text: &str, bytes: &[u8], list: &[Named], named: &Named) -> String;
    fn bytes(&self, bytes: &[u8]) -> Vec<u8>;
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FlatLarge {
    #[serde(flatten)]
    inside: Large,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Large {
    number: u128,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FlatAddress {
    #[serde(flatten)]
    inside: Address,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Address {
    address: IpAddr,
}

/// All types that identify a worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Handles {
    worker: Worker<EdgeCaseWorker>,
    address: WorkerAddress,
    id: WorkerId,
    label: WorkerLabel,
    failure: WorkerFailure,
}

/// [`Handles`] inside all representations that serde buffers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct WrappedHandles {
    plain: Handles,
    tagged: [TaggedHandles; 3],
    untagged: [UntaggedHandles; 3],
    #[serde(flatten)]
    flattened: Handles,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum TaggedHandles {
    Found { worker: Worker<EdgeCaseWorker>, id: WorkerId },
    Reachable(WorkerAddress),
    All(Box<Handles>),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum UntaggedHandles {
    Number(u64),
    Handles(Box<Handles>),
    Worker(Box<Worker<EdgeCaseWorker>>),
    Id(WorkerId),
}

/// A value with any number of levels.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct List {
    rest: Option<Box<List>>,
}

impl List {
    fn new(depth: usize) -> Self {
        (1..depth).fold(Self::default(), |rest, _| Self { rest: Some(Box::new(rest)) })
    }

    fn depth(&self) -> usize {
        std::iter::successors(Some(self), |it| it.rest.as_deref()).count()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // A recursive drop would overflow the stack.
        let mut rest = self.rest.take();
        while let Some(mut list) = rest {
            rest = list.rest.take();
        }
    }
}

#[derive(Default, WorkerState)]
struct EdgeCaseWorker;

#[rpc_parallel::worker]
impl EdgeCases for EdgeCaseWorker {
    fn nested_option(&self, value: Option<Option<u8>>) -> String {
        format!("{value:?}")
    }

    fn nothing(&self, value: Option<()>) -> String {
        format!("{value:?}")
    }

    fn large_inside(&self, value: FlatLarge) -> String {
        format!("{value:?}")
    }

    fn address_inside(&self, value: FlatAddress) -> String {
        format!("{value:?}")
    }

    fn handles(&self, handles: WrappedHandles) -> WrappedHandles {
        handles
    }

    fn abort(&self) {
        std::process::abort()
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn list(&self, value: List) -> usize {
        value.depth()
    }

    fn make_list(&self, depth: usize) -> List {
        List::new(depth)
    }

    async fn send_list_to_worker(&self, depth: usize) -> Result<usize, AnyError> {
        Ok(EdgeCaseWorker::spawn(()).await?.list(List::new(depth)).await?)
    }

    fn tree(&self, value: serde_json::Value) -> bool {
        value.is_array()
    }

    fn references(&self, text: &str, bytes: &[u8], list: &[Named], named: &Named) -> String {
        format!("{text} {bytes:?} {list:?} {named:?}")
    }

    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }
}

async fn spawn() -> EdgeCasesClient {
    EdgeCaseWorker::spawn_ok(()).await
}

/// Checks that a value arrived unchanged or was refused.
fn assert_unchanged_or_refused(value: &impl Debug, seen: Result<String, CallError>) {
    match seen {
        Ok(seen) => assert_eq!(seen, format!("{value:?}")),
        Err(error) => {
            let kinds = error.kind();
            let refused = matches!(
                kinds,
                CallErrorKind::Undecodable { .. } | CallErrorKind::Unencodable { .. }
            );
            assert!(refused, "{error}");
        }
    }
}

#[rpc_parallel::test]
async fn some_of_nothing_is_refused() {
    let client = spawn().await;

    for refused in [client.nested_option(Some(None)).await, client.nothing(Some(())).await] {
        let error = refused.expect_err("MessagePack cannot represent the value");
        let kind = error.kind();
        let arguments =
            matches!(kind, CallErrorKind::Unencodable { message: MessageKind::Arguments, .. });
        assert!(arguments, "{error}");
    }
    assert_eq!(client.nested_option(None).await, Ok("None".into()));
    assert_eq!(client.nested_option(Some(Some(7))).await, Ok("Some(Some(7))".into()));
    assert_eq!(client.nothing(None).await, Ok("None".into()));
}

#[rpc_parallel::test]
async fn values_serde_cannot_flatten_arrive_unchanged_or_fail() {
    let client = spawn().await;
    let large = FlatLarge { inside: Large { number: u128::MAX } };
    let address = FlatAddress { inside: Address { address: [127, 0, 0, 1].into() } };

    assert_unchanged_or_refused(&large, client.large_inside(large.clone()).await);
    assert_unchanged_or_refused(&address, client.address_inside(address.clone()).await);
}

#[rpc_parallel::test]
async fn buffered_128_bit_integer_is_refused_with_cause_and_cure() {
    let client = spawn().await;
    let large = FlatLarge { inside: Large { number: u128::MAX } };

    let error = client.large_inside(large).await.expect_err("serde cannot buffer it");

    let text = error.to_string();
    let refused =
        matches!(error.kind(), CallErrorKind::Undecodable { message: MessageKind::Arguments, .. });
    assert!(refused, "{text}");
    assert!(text.contains("u128 is not supported"), "{text}");
    assert!(text.contains("serde cannot buffer 128-bit integers"), "{text}");
}

/// Returns the handles of a running worker, and the failure of another.
async fn wrapped_handles() -> WrappedHandles {
    let worker = EdgeCaseWorker::spawner().name("running").start_ok(()).await;
    let failing = spawn().await;
    let error = failing.abort().await.expect_err("the worker aborts");
    let CallErrorKind::WorkerDied(failure) = error.kind() else { panic!("{error}") };
    let handles = Handles {
        address: worker.address().expect("the worker has a listener"),
        id: worker.id(),
        label: worker.label().clone(),
        worker,
        failure: failure.clone(),
    };
    let Handles { worker, address, id, .. } = handles.clone();
    WrappedHandles {
        plain: handles.clone(),
        tagged: [
            TaggedHandles::Found { worker: worker.clone(), id },
            TaggedHandles::Reachable(address),
            TaggedHandles::All(handles.clone().into()),
        ],
        untagged: [
            UntaggedHandles::Handles(handles.clone().into()),
            UntaggedHandles::Worker(Box::new(worker)),
            UntaggedHandles::Id(id),
        ],
        flattened: handles,
    }
}

#[rpc_parallel::test]
async fn handles_survive_calls_in_every_serde_wrapper() {
    let handles = wrapped_handles().await;

    let returned = spawn().await.handles(handles.clone()).await;

    assert_eq!(returned, Ok(handles.clone()));
    let TaggedHandles::Found { worker, .. } = &handles.tagged[0] else { panic!("{handles:?}") };
    let client = worker.connect_ok().await;
    assert_eq!(client.nested_option(None).await, Ok("None".into()));
}

#[rpc_parallel::test]
async fn handles_survive_json_with_ids_as_hexadecimal_text() {
    let handles = wrapped_handles().await;

    let text = serde_json::to_string(&handles).expect("handles can be serialized");
    let value = serde_json::to_value(&handles).expect("handles can be serialized");

    assert_eq!(serde_json::from_str::<WrappedHandles>(&text).expect("the text is valid"), handles);
    assert_eq!(
        serde_json::from_value::<WrappedHandles>(value.clone()).expect("the value is valid"),
        handles
    );
    assert_eq!(value["id"], handles.plain.id.to_string());
    assert_eq!(value["address"]["version 1"]["id"], handles.plain.id.to_string());
    let worker_type = value["worker"][0].as_str().expect("the id of a worker type is text");
    assert!(worker_type.len() == 16 && u64::from_str_radix(worker_type, 16).is_ok());
}

#[test]
fn id_of_wrong_length_or_digits_is_refused() {
    let texts = ["", "12", "g123456789abcdef0123456789abcdef", "+123456789abcdef0123456789abcdef"];
    for text in texts {
        let error =
            serde_json::from_value::<WorkerId>(text.into()).expect_err("the text is not an id");
        assert!(
            error.to_string().contains("an id of 32 hexadecimal digits or 16 bytes"),
            "{error}"
        );
    }
    assert!(serde_json::from_str::<WorkerId>("7").is_err());
    assert!(serde_json::from_str::<WorkerId>("1e30").is_err());
}

#[rpc_parallel::test]
async fn references_arrive_as_their_targets() {
    let named = Named { first: 1, second: "two".into() };
    let list = [named.clone(), named.clone()];

    let seen = spawn().await.references("a", &[1, 255], &list, &named).await;

    assert_eq!(seen, Ok(format!("a [1, 255] {list:?} {named:?}")));
}

#[rpc_parallel::test]
async fn path_that_is_not_utf8_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let client = spawn().await;

    let refused = client.path(Path::new(OsStr::from_bytes(b"/tmp/\xff"))).await;

    let error = refused.expect_err("the path is not UTF-8");
    let CallErrorKind::Unencodable { message: MessageKind::Arguments, why } = error.kind() else {
        panic!("{error}")
    };
    assert!(why.contains("UTF-8"), "{why}");
    assert_eq!(client.path(Path::new("/tmp")).await, Ok("/tmp".into()));
}

#[rpc_parallel::test]
async fn value_nested_two_hundred_levels_travels() {
    let client = spawn().await;

    // Each element is a struct and an option.
    assert_eq!(client.list(List::new(100)).await, Ok(100));
    assert_eq!(client.make_list(100).await.map(|it| it.depth()), Ok(100));
    let tree = (0..200).fold(serde_json::json!(7), |it, _| serde_json::json!([it]));
    assert_eq!(client.tree(tree).await, Ok(true));
}

#[rpc_parallel::test]
async fn value_nested_too_deeply_is_refused() {
    for depth in [500, 5_000, 100_000] {
        let client = spawn().await;

        let made = client.make_list(depth).await.map(|it| it.depth());
        // Here the caller is a worker, so that a crash would not end this test.
        let sent = client.send_list_to_worker(depth).await;

        let error = made.expect_err("the value is nested too deeply");
        let kind = error.kind();
        let result =
            matches!(kind, CallErrorKind::Unencodable { message: MessageKind::Result, .. });
        assert!(result, "{depth}: {error}");
        let Err(FunctionError::Function(error)) = sent else { panic!("{sent:?}") };
        assert!(error.to_string().contains("failed to encode the arguments"), "{depth}: {error}");
        assert_eq!(client.list(List::new(7)).await, Ok(7));
    }
}

#[rpc_parallel::test]
async fn bytes_travel_unchanged() {
    let client = spawn().await;
    let bytes: Vec<_> = (0..=255).cycle().take(1_000_000).collect();

    assert_eq!(client.bytes(&bytes).await.as_ref(), Ok(&bytes));
    assert_eq!(client.bytes(&[]).await, Ok(vec![]));
}
