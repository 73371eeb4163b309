//! Functions under ids of one's own: a protocol that several traits speak, whatever they are called.

use std::process::Command;
use std::sync::Mutex;

use futures_util::stream;
use rpc_parallel::Settings;
use rpc_parallel::error::{CallErrorKind, MessageKind, PipeErrorKind};
use rpc_parallel::prelude::*;
use rpc_parallel_tests::process::PATIENCE;
use rpc_parallel_tests::program::{Ended, Program};
use rpc_parallel_tests::waiting::{elements, soon};
use serde::{Deserialize, Serialize};

/// What a price is said to be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Quote {
    name: String,
    cents: u64,
}

/// An exchange, as those who wrote it call it.
#[rpc_parallel::worker]
trait Exchange {
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

/// The same protocol, as somebody else calls it, in another order and with other words.
mod elsewhere {
    use super::Quote;
    use rpc_parallel::prelude::*;

    /// Prices.
    #[rpc_parallel::worker]
    pub trait Prices {
        #[worker(id = "quotes.forget.v1", one_way)]
        fn strike(&self, title: &str);
        #[worker(id = "quotes.watch.v1")]
        fn follow(&self, title: String) -> (u64, Pipe<Quote>);
        #[worker(id = "quotes.v2")]
        fn price(&self, title: &str) -> Option<Quote>;
        #[worker(id = "quotes.print.v1")]
        fn list(&self, to: PipeWriter<Quote>) -> usize;
        #[worker(id = "quotes.offer.v1")]
        fn bring(&self, prices: Pipe<Quote>) -> usize;
    }
}

use elsewhere::PricesClient;

/// The protocol, misunderstood.
#[rpc_parallel::worker]
trait Rumours {
    #[worker(id = "quotes.v2")]
    fn quote(&self, name: &str) -> Vec<u64>;
    #[worker(id = "quotes.watch.v1")]
    fn watch(&self, name: String) -> (u64, Pipe<String>);
    #[worker(id = "quotes.offer.v1")]
    fn offer(&self, quotes: u64) -> usize;
    #[worker(id = "quotes.v3")]
    fn quote_in_euros(&self, name: &str) -> u64;
}

#[derive(Default, WorkerState)]
struct Bourse(Mutex<Vec<Quote>>);

impl Bourse {
    fn find(&self, name: &str) -> Option<Quote> {
        let quotes = self.0.lock().expect("nobody panics in here");
        quotes.iter().find(|it| it.name == name).cloned()
    }
}

#[rpc_parallel::worker]
impl Exchange for Bourse {
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
            self.0.lock().expect("nobody panics in here").push(quote);
            count += 1;
        }
        count
    }

    async fn print(&self, writer: PipeWriter<Quote>) -> usize {
        let quotes = self.0.lock().expect("nobody panics in here").clone();
        quotes.into_iter().filter(|it| writer.try_send(it.clone()).is_ok()).count()
    }

    async fn forget(&self, name: &str) {
        self.0.lock().expect("nobody panics in here").retain(|it| it.name != name);
    }
}

fn quote(name: &str, cents: u64) -> Quote {
    Quote { name: name.into(), cents }
}

/// Starts an exchange with two quotes.
async fn start() -> ExchangeClient {
    let exchange = Bourse::spawn(()).await.expect("start a worker");
    let quotes = stream::iter([quote("tea", 100), quote("tin", 200)]);
    assert_eq!(exchange.offer(quotes).await, Ok(2));
    exchange
}

#[rpc_parallel::test]
async fn a_function_under_a_fixed_id_answers_a_client_of_another_trait() {
    let exchange = start().await;
    let prices = PricesClient::from_client(exchange.client().clone());

    assert_eq!(prices.price("tea").await, Ok(Some(quote("tea", 100))));
    assert_eq!(prices.price("tar").await, Ok(None));
}

#[rpc_parallel::test]
async fn every_kind_of_function_has_a_fixed_id_if_it_wants() {
    let exchange = start().await;
    let prices = PricesClient::from_client(exchange.client().clone());
    let (writer, printed) = Pipe::pair();

    let brought = soon(prices.bring(stream::iter([quote("tar", 300)]))).await;
    let (cents, later) = prices.follow("tin".into()).await.expect("call it");
    let later = elements(later).await;
    prices.strike("tea").await.expect("it is written");
    let listed = soon(prices.list(writer)).await;
    let printed = elements(printed).await;

    assert_eq!((brought, cents, listed), (Ok(1), 200, Ok(2)));
    assert_eq!(later, [201, 202, 203].map(|it| quote("tin", it)));
    assert_eq!(printed, [quote("tin", 200), quote("tar", 300)]);
}

#[rpc_parallel::test]
async fn types_that_do_not_match_are_readable_errors() {
    let exchange = start().await;
    let rumours = RumoursClient::from_client(exchange.client().clone());

    let result = rumours.quote("tea").timeout(PATIENCE).await.expect_err("it is no list");
    let argument = rumours.offer(7).timeout(PATIENCE).await.expect_err("it is no number");
    let missing = rumours.quote_in_euros("tea").timeout(PATIENCE).await.expect_err("it has none");

    let CallErrorKind::Undecodable { side: MessageKind::Result, why } = result.kind() else {
        panic!("{result}")
    };
    assert!(why.contains("Vec<u64>"), "{why}");
    let CallErrorKind::Undecodable { side: MessageKind::Arguments, why } = argument.kind() else {
        panic!("{argument}")
    };
    assert!(why.contains("Pipe<"), "{why}");
    let CallErrorKind::UnknownFunction { offers } = missing.kind() else { panic!("{missing}") };
    assert!(offers.iter().any(|it| it.starts_with("quote(")), "{offers:?}");
    assert_eq!(exchange.quote("tin").await, Ok(Some(quote("tin", 200))));
}

#[rpc_parallel::test]
async fn elements_that_do_not_match_are_readable_errors() {
    let exchange = start().await;
    let rumours = RumoursClient::from_client(exchange.client().clone());

    let (cents, mut texts) = rumours.watch("tea".into()).await.expect("its head matches");
    let text = soon(texts.next()).await;

    assert_eq!(cents, 100);
    let Some(Err(error)) = text else { panic!("{text:?}") };
    let PipeErrorKind::Undecodable { why } = error.kind() else { panic!("{error}") };
    assert!(why.contains("String"), "{why}");
}

/// Runs another program, which knows the address of an exchange and what to do there.
async fn other_program(settings: Settings, what: &str) -> Ended {
    let exchange = Bourse::spawner().settings(settings).start(()).await.expect("start a worker");
    let client = exchange.connect(()).await.expect("connect to it");
    assert_eq!(client.offer(stream::iter([quote("tea", 100)])).await, Ok(1));
    let address = exchange.address().expect("it listens");
    let address = serde_json::to_string(&address).expect("it is plain data");
    let what = what.to_owned();
    let run = move || {
        let program = env!("CARGO_BIN_EXE_other_program");
        Program::run(Command::new(program).args([&address, &what]))
    };
    tokio::task::spawn_blocking(run).await.expect("it does not panic")
}

fn open_to_others() -> Settings {
    Settings::default().with_other_builds(true)
}

#[rpc_parallel::test]
async fn another_program_calls_functions_with_the_ids_that_it_knows() {
    let ended = other_program(open_to_others(), "price").await;

    assert!(ended.status.success(), "{ended:?}");
    let expected = [
        r#"Some(Quote { name: "tea", cents: 100 })"#,
        "100",
        r#"Quote { name: "tea", cents: 101 }"#,
        r#"Quote { name: "tea", cents: 102 }"#,
        r#"Quote { name: "tea", cents: 103 }"#,
    ];
    assert_eq!(ended.stdout, expected);
}

#[rpc_parallel::test]
async fn another_program_is_refused_unless_the_settings_let_it_in() {
    let ended = other_program(Settings::default(), "price").await;

    let line = ended.stdout.first().expect("it says so");
    assert!(line.starts_with("other build: connect to worker "), "{line}");
    assert!(line.contains("`Settings::with_other_builds`"), "{line}");
}

#[rpc_parallel::test]
async fn types_that_differ_between_programs_are_an_error_that_names_both() {
    let ended = other_program(open_to_others(), "misread").await;

    let line = ended.stdout.first().expect("it says so");
    assert!(line.starts_with("other types: "), "{line}");
    let both = "the worker's `quote` is (String) -> Option<Quote> and the caller's `price`, \
                with the same id, is (u64) -> Option<Quote>";
    assert!(line.ends_with(both), "{line}");
}
