//! Functions with fixed ids: clients of other traits and of other programs can call them.

use std::process::Command;
use std::sync::Mutex;

use futures_util::stream;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, PipeErrorKind};
use rpc_parallel::expert::WorkerAddress;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::TEST_TIMEOUT;
use rpc_parallel_tests::program::{Program, ProgramOutput};
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};
use rpc_parallel_tests::waiting::{elements, soon};
use serde::{Deserialize, Serialize};

/// An argument and a result.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Quote {
    name: String,
    cents: u64,
}

/// Functions of every kind with fixed ids.
#[rpc_parallel::worker]
trait Quotes {
    #[worker(id = "quotes.v2")]
    async fn quote(&self, name: &str) -> Option<Quote>;
    #[worker(id = "quotes.watch.v1")]
    async fn watch(&self, name: String) -> (u64, Pipe<Quote>);
    #[worker(id = "quotes.offer.v1")]
    async fn offer(&self, quotes: Pipe<Quote>) -> usize;
    #[worker(id = "quotes.print.v1")]
    async fn print(&self, quotes: PipeWriter<Quote>) -> usize;
    #[worker(id = "quotes.forget.v1", one_way)]
    async fn forget(&self, name: &str);
}

/// The same functions with other names, in another order.
mod renamed {
    use super::Quote;
    use rpc_parallel::prelude::*;

    /// Functions with the ids of [`Quotes`](super::Quotes).
    #[rpc_parallel::worker]
    pub trait RenamedQuotes {
        #[worker(id = "quotes.forget.v1", one_way)]
        fn remove(&self, title: &str);
        #[worker(id = "quotes.watch.v1")]
        fn subscribe(&self, title: String) -> (u64, Pipe<Quote>);
        #[worker(id = "quotes.v2")]
        fn price(&self, title: &str) -> Option<Quote>;
        #[worker(id = "quotes.print.v1")]
        fn write(&self, to: PipeWriter<Quote>) -> usize;
        #[worker(id = "quotes.offer.v1")]
        fn send(&self, quotes: Pipe<Quote>) -> usize;
    }
}

use renamed::RenamedQuotesClient;

/// Functions with the same ids and other types.
#[rpc_parallel::worker]
trait MismatchedQuotes {
    #[worker(id = "quotes.v2")]
    fn quote(&self, name: &str) -> Vec<u64>;
    #[worker(id = "quotes.watch.v1")]
    fn watch(&self, name: String) -> (u64, Pipe<String>);
    #[worker(id = "quotes.offer.v1")]
    fn offer(&self, quotes: u64) -> usize;
    #[worker(id = "quotes.v3")]
    fn missing(&self, name: &str) -> u64;
}

#[derive(Default, WorkerState)]
struct QuoteWorker(Mutex<Vec<Quote>>);

impl QuoteWorker {
    fn find(&self, name: &str) -> Option<Quote> {
        let quotes = self.0.lock().expect("the lock is not poisoned");
        quotes.iter().find(|it| it.name == name).cloned()
    }
}

#[rpc_parallel::worker]
impl Quotes for QuoteWorker {
    async fn quote(&self, name: &str) -> Option<Quote> {
        self.find(name)
    }

    async fn watch(&self, name: String) -> (u64, Pipe<Quote>) {
        let cents = self.find(&name).map_or(0, |it| it.cents);
        let later = (1..4).map(move |it| Quote { name: name.clone(), cents: cents + it });
        (cents, Pipe::from_items(later))
    }

    async fn offer(&self, mut quotes: Pipe<Quote>) -> usize {
        let mut count = 0;
        while let Some(Ok(quote)) = quotes.next().await {
            self.0.lock().expect("the lock is not poisoned").push(quote);
            count += 1;
        }
        count
    }

    async fn print(&self, writer: PipeWriter<Quote>) -> usize {
        let quotes = self.0.lock().expect("the lock is not poisoned").clone();
        quotes.into_iter().filter(|it| writer.try_send(it.clone()).is_ok()).count()
    }

    async fn forget(&self, name: &str) {
        self.0.lock().expect("the lock is not poisoned").retain(|it| it.name != name);
    }
}

fn quote(name: &str, cents: u64) -> Quote {
    Quote { name: name.into(), cents }
}

/// Starts a worker that holds two quotes.
async fn start() -> QuotesClient {
    let client = QuoteWorker::spawn_ok(()).await;
    let quotes = stream::iter([quote("tea", 100), quote("tin", 200)]);
    assert_eq!(client.offer(quotes).await, Ok(2));
    client
}

#[rpc_parallel::test]
async fn function_with_fixed_id_answers_client_of_another_trait() {
    let client = start().await;
    let renamed = RenamedQuotesClient::from_client(client.client().clone());

    assert_eq!(renamed.price("tea").await, Ok(Some(quote("tea", 100))));
    assert_eq!(renamed.price("tar").await, Ok(None));
}

#[rpc_parallel::test]
async fn every_kind_of_function_can_have_fixed_id() {
    let client = start().await;
    let renamed = RenamedQuotesClient::from_client(client.client().clone());
    let (writer, printed) = Pipe::pair();

    let sent = soon(renamed.send(stream::iter([quote("tar", 300)]))).await;
    let (cents, later) = renamed.subscribe("tin".into()).await.expect("the call succeeds");
    let later = elements(later).await;
    renamed.remove("tea").await.expect("the call is sent");
    let written = soon(renamed.write(writer)).await;
    let printed = elements(printed).await;

    assert_eq!((sent, cents, written), (Ok(1), 200, Ok(2)));
    assert_eq!(later, [201, 202, 203].map(|it| quote("tin", it)));
    assert_eq!(printed, [quote("tin", 200), quote("tar", 300)]);
}

#[rpc_parallel::test]
async fn mismatched_types_fail_with_readable_errors() {
    let client = start().await;
    let mismatched = MismatchedQuotesClient::from_client(client.client().clone());

    let result =
        mismatched.quote("tea").timeout(TEST_TIMEOUT).await.expect_err("the result is not a list");
    let argument =
        mismatched.offer(7).timeout(TEST_TIMEOUT).await.expect_err("the argument is not a number");
    let missing = mismatched
        .missing("tea")
        .timeout(TEST_TIMEOUT)
        .await
        .expect_err("the worker has no such function");

    let CallErrorKind::Undecodable { message: MessageKind::Result, why } = result.kind() else {
        panic!("{result}")
    };
    assert!(why.contains("Vec<u64>"), "{why}");
    let CallErrorKind::Undecodable { message: MessageKind::Arguments, why } = argument.kind()
    else {
        panic!("{argument}")
    };
    assert!(why.contains("Pipe<"), "{why}");
    let CallErrorKind::UnknownFunction { offers } = missing.kind() else { panic!("{missing}") };
    assert!(offers.iter().any(|it| it.starts_with("quote(")), "{offers:?}");
    assert_eq!(client.quote("tin").await, Ok(Some(quote("tin", 200))));
}

#[rpc_parallel::test]
async fn mismatched_elements_fail_with_readable_error() {
    let client = start().await;
    let mismatched = MismatchedQuotesClient::from_client(client.client().clone());

    let (cents, mut texts) =
        mismatched.watch("tea".into()).await.expect("the first element of the result matches");
    let text = soon(texts.next()).await;

    assert_eq!(cents, 100);
    let Some(Err(error)) = text else { panic!("{text:?}") };
    let PipeErrorKind::Undecodable { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("String"), "{why}");
}

/// Runs another program with the address of a worker and a task.
async fn other_program(settings: Settings, task: &str) -> ProgramOutput {
    let worker = QuoteWorker::spawner().settings(settings).start_ok(()).await;
    let client = worker.connect_ok().await;
    assert_eq!(client.offer(stream::iter([quote("tea", 100)])).await, Ok(1));
    let address = worker.address().expect("the worker has a listener");
    let address = serde_json::to_string(&address).expect("an address can be serialized");
    let task = task.to_owned();
    let run = move || {
        let program = env!("CARGO_BIN_EXE_other_program");
        Program::run(Command::new(program).args([&address, &task]))
    };
    tokio::task::spawn_blocking(run).await.expect("the task does not panic")
}

#[rpc_parallel::test]
async fn stored_address_contains_version_of_its_format() {
    let worker = QuoteWorker::spawner().start_ok(()).await;
    let address = worker.address().expect("the worker has a listener");
    let stored = serde_json::to_string(&address).expect("an address can be serialized");

    let read: WorkerAddress = serde_json::from_str(&stored).expect("it is an address");
    let later = stored.replace("version 1", "version 7");
    let refused: Result<WorkerAddress, _> = serde_json::from_str(&later);

    assert_eq!(read, address);
    assert!(stored.starts_with(r#"{"version 1":{"id":"#), "{stored}");
    let error = refused.expect_err("the version is unknown").to_string();
    assert!(error.contains("unknown variant `version 7`, expected `version 1`"), "{error}");
}

fn accept_other_builds() -> Settings {
    Settings::default().with_other_builds(true)
}

#[rpc_parallel::test]
async fn another_program_calls_functions_by_fixed_ids() {
    let output = other_program(accept_other_builds(), "price").await;

    assert!(output.status.success(), "{output:?}");
    let expected = [
        r#"Some(Quote { name: "tea", cents: 100 })"#,
        "100",
        r#"Quote { name: "tea", cents: 101 }"#,
        r#"Quote { name: "tea", cents: 102 }"#,
        r#"Quote { name: "tea", cents: 103 }"#,
    ];
    assert_eq!(output.stdout, expected);
}

#[rpc_parallel::test]
async fn another_program_is_refused_by_default() {
    let output = other_program(Settings::default(), "price").await;

    let line = output.stdout.first().expect("the program prints a line");
    assert!(line.starts_with("other build: failed to connect to worker "), "{line}");
    assert!(line.contains("`Settings::with_other_builds`"), "{line}");
}

#[rpc_parallel::test]
async fn types_differing_between_programs_are_both_named() {
    let output = other_program(accept_other_builds(), "misread").await;

    let line = output.stdout.first().expect("the program prints a line");
    assert!(line.starts_with("other types: "), "{line}");
    let both = "the worker's `quote` is (String) -> Option<Quote> and the caller's `price`, \
                with the same id, is (u64) -> Option<Quote>";
    assert!(line.ends_with(both), "{line}");
}
