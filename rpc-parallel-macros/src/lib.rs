//! The macros of rpc-parallel; the crate `rpc-parallel` re-exports them all.
//!
//! Each macro is a pipeline in the file that bears its name: read the syntax, check it, write
//! code. What it writes is thin and names only the facade's `__private` and the user's own items.

mod worker;
mod entry;
mod test;
mod state;
mod args;
mod head;
mod model;
mod check;
mod expand;
mod names;
mod text;
mod search;
mod pipes;
mod errors;
mod mistakes;

use proc_macro::TokenStream;

/// Declares a worker trait, or makes a type serve one.
///
/// On a **trait** it declares what a worker offers, and makes the typed client:
///
/// ```
/// # #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// # pub struct DivideByZero;
/// /// Arithmetic, done elsewhere.
/// #[rpc_parallel::worker]
/// pub trait Arithmetic {
///     async fn sum(&self, xs: &[u64]) -> u64;
///     fn divide(&self, a: i64, b: i64) -> Result<i64, DivideByZero>;
/// }
/// ```
///
/// makes `ArithmeticClient`, with the same functions, each of which returns a call to await, and
/// with each function as a constant (`ArithmeticClient::SUM`) for what takes functions as values.
///
/// * Every function takes `&self`, and may be `async` or not.
/// * Arguments are owned, or borrowed at the outermost place (`&str`, `&[T]`, `&T`).
/// * A function may take a `&Context<State>` anywhere among its arguments; callers do not see it.
/// * A result whose last path segment is `Result` is fallible: its error reaches the caller as
///   `FunctionError::Function`.
///
/// Arguments and results may hold streams, which go on after the call:
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::worker]
/// pub trait Feed {
///     async fn ticks(&self, every: u64) -> Pipe<u64>;
///     async fn total(&self, numbers: Pipe<u64>) -> u64;
///     async fn watch(&self, key: &str) -> (String, Pipe<String>);
///     async fn render(&self, scene: String, tiles: PipeWriter<Vec<u8>>);
///     #[worker(one_way)]
///     async fn note(&self, line: String);
///     #[worker(no_cancel)]
///     async fn save(&self) -> Result<(), String>;
/// }
///
/// async fn listen(feed: &FeedClient) -> Result<u64, CallError> {
///     let mut ticks = feed.ticks(10).await?;
///     while let Some(Ok(tick)) = ticks.next().await {
///         feed.note(format!("tick {tick}")).await?;
///     }
///     feed.total(Pipe::from_items([1, 2, 3])).await
/// }
/// ```
///
/// Where an argument is written as `Pipe<T>`, callers give any stream of `T`; behind another name
/// for that type they give a `Pipe<T>`. Pipes and their writers move, so no argument borrows them.
///
/// What a signature cannot say stands in `#[worker(..)]` on the function:
///
/// | argument | meaning |
/// |---|---|
/// | `id = ".."` | fixes its id, so that it may be renamed or changed |
/// | `result` | its result is a `Result` by another name |
/// | `one_way` | it has no result, and a call is done when it is written (see below) |
/// | `no_cancel` | a caller who drops the call does not stop it |
///
/// The one-way functions of a connection begin in the order in which they were sent. If one
/// fails, its worker says so in a line on stderr.
///
/// On the **impl** of a worker trait it makes the type startable:
///
/// ```
/// # use rpc_parallel::prelude::*;
/// # #[rpc_parallel::worker]
/// # pub trait Arithmetic {
/// #     async fn sum(&self, xs: &[u64]) -> u64;
/// # }
/// #[derive(Default, WorkerState)]
/// struct Calculator;
///
/// #[rpc_parallel::worker]
/// impl Arithmetic for Calculator {
///     async fn sum(&self, xs: &[u64]) -> u64 {
///         xs.iter().sum()
///     }
/// }
///
/// async fn use_it() -> Result<u64, Box<dyn std::error::Error>> {
///     let calculator = Calculator::spawn(()).await?;
///     Ok(calculator.sum(&[1, 2]).await?)
/// }
/// ```
///
/// The client's type is the trait's path with `Client` added; `#[worker(client = path)]` names
/// another one. `#[worker(id = "..")]` fixes the id of the worker type.
///
/// On both, `#[worker(crate = path)]` says where `rpc-parallel` is, if it has another name.
#[proc_macro_attribute]
pub fn worker(args: TokenStream, item: TokenStream) -> TokenStream {
    worker::expand(args.into(), &item.into()).into()
}

/// Makes `main` the start of master and workers alike.
///
/// ```text
/// #[rpc_parallel::entry]
/// async fn main() -> anyhow::Result<()> { .. }
/// ```
///
/// The same executable runs as master and as each of its workers; this attribute decides which,
/// before any line of `main`. A worker never runs `main`.
///
/// `main` may be `async` or not, return what any `main` may return, and take the program's
/// arguments as `Vec<String>`, `Vec<OsString>`, `std::env::Args` or `std::env::ArgsOs`.
///
/// | argument | meaning |
/// |---|---|
/// | `flavor = "current_thread"` or `"multi_thread"` | the master's runtime, for an async `main` |
/// | `threads = 4` | its threads, if `"multi_thread"` |
/// | `worker(flavor = .., threads = ..)` | the same for the workers' runtimes |
/// | `settings = Settings::default()` | the [`Settings`] of the program's workers, or a `Result` of them |
/// | `worker_logs = true` | workers keep what they log, for `logs()`; default: `false` (feature `tracing`) |
/// | `crate = path` | where `rpc-parallel` is, if it has another name |
///
/// The value of `settings` is any expression, which only the master evaluates:
///
/// ```
/// use rpc_parallel::Settings;
/// use rpc_parallel::error::SettingsError;
///
/// fn settings() -> Result<Settings, SettingsError> {
///     Settings::default().with_max_message_size(1 << 30).with_heartbeat_timeout(None)
/// }
///
/// #[rpc_parallel::entry(settings = settings())]
/// async fn main() {}
/// ```
///
/// [`Settings`]: https://docs.rs/rpc-parallel/latest/rpc_parallel/struct.Settings.html
#[proc_macro_attribute]
pub fn entry(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(args.into(), &item.into()).into()
}

/// Registers a test, so that it and all other tests of its executable can start workers.
///
/// It runs under plain `cargo test` and `cargo nextest`.
///
/// ```text
/// #[rpc_parallel::test]
/// async fn a_sum_is_a_sum() {
///     let calculator = Calculator::spawn(()).await.expect("start a worker");
///     assert_eq!(calculator.sum(&[1, 2]).await.expect("call it"), 3);
/// }
/// ```
///
/// It takes the arguments of [`macro@entry`]. The function may be `async` or not, and has no
/// parameters. `#[should_panic]`, `#[ignore]` and results work as with `#[test]`.
///
/// # Other tests of the executable
///
/// A worker of a test is the test executable, run again with arguments that select a registered
/// test. So one `#[rpc_parallel::test]` in an executable is enough: `#[test]` and `#[tokio::test]`
/// functions of the same executable can start workers too, alone or after any other test. In an
/// executable without one, each start in a test fails with `SpawnErrorKind::NotInitialized`.
///
/// All tests of an executable share the same `settings`, `worker(..)` and `worker_logs`, because
/// they share a process. If two registered tests differ in these, each registered test fails, and
/// so does each start in another test; the error names two of them. `Spawner::settings` sets the
/// settings of one worker. `flavor` and `threads` are of one test and may differ.
///
/// Only a `#[rpc_parallel::test]` waits at its end until the output of its workers is written.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(args.into(), &item.into()).into()
}

/// Makes a type with a `Default` the state of a worker that starts without an argument.
///
/// ```text
/// #[derive(Default, WorkerState)]
/// struct Calculator;
/// ```
///
/// `#[worker_state(crate = path)]` says where `rpc-parallel` is, if it has another name.
#[proc_macro_derive(WorkerState, attributes(worker_state))]
pub fn worker_state(item: TokenStream) -> TokenStream {
    state::expand(item.into()).into()
}
