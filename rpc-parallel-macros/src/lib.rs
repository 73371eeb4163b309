//! The macros of rpc-parallel. The crate `rpc-parallel` re-exports all of them.
//!
//! Each macro is a pipeline in the file that has its name: `args`, `head` and `model` read the
//! syntax, `check` finds mistakes, `expand` writes code. Generated code is thin: it names only the
//! facade's `__private` module and the user's own items, and calls the runtime for everything else.

mod worker;
mod process;
mod entry;
mod test;
mod state;
mod args;
mod head;
mod type_parts;
mod model;
mod check;
mod expand;
mod names;
mod text;
mod search;
mod pipes;
mod source;
mod errors;

use proc_macro::TokenStream;

/// Declares a worker trait, or makes a type a worker type.
///
/// # On a trait
///
/// The attribute declares the functions of a worker, and generates a typed client:
///
/// ```
/// # #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// # pub struct DivideByZero;
/// /// Arithmetic in another process.
/// #[rpc_parallel::worker]
/// pub trait Arithmetic {
///     async fn sum(&self, xs: &[u64]) -> u64;
///     fn divide(&self, a: i64, b: i64) -> Result<i64, DivideByZero>;
/// }
/// ```
///
/// This generates the type `ArithmeticClient` with:
///
/// - a function for each function of the trait, with the same arguments, which returns a call to
///   await: `client.sum(&[1, 2]).await?`;
/// - a constant for each function, such as `ArithmeticClient::SUM`, for code that takes functions
///   as values.
///
/// The functions of the trait follow these rules:
///
/// - A function takes `&self`. It can be `async` or not. It has no generic parameters and no
///   default body.
/// - An argument is owned, or borrowed with one outermost `&`: `&str`, `&[T]`, `&T`. There are at
///   most 16 arguments.
/// - The types of arguments and results implement `serde::Serialize` and `serde::Deserialize`, are
///   `Send`, and hold no references.
/// - A function can take one `&Context<State>` at any position. The worker supplies it; the
///   client's function does not have it. All contexts in a trait have
///   the same type.
/// - If the last path segment of the return type is `Result`, then the function is fallible. The
///   caller gets the function's own error as `FunctionError::Function`. `AnyError` is an error type
///   for functions that use `?` on errors of other crates.
/// - In the trait that the attribute writes, an `async fn` is a `fn` that returns a `Send` future,
///   with the bound `Self: Sync`.
///
/// ## Streams
///
/// Arguments and results can hold streams, which continue after the call:
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
/// The client's function takes any stream of `T` for an argument that is written as `Pipe<T>`. If
/// the argument has an alias of that type, or a pipe inside another type, the client's function
/// takes a `Pipe<T>`. Pipes and writers are passed by value. A result can hold a `Pipe`, but no
/// `PipeWriter`. The elements of a pipe hold no pipes.
///
/// ## Arguments on a function
///
/// | `#[worker(..)]` | meaning | default |
/// |---|---|---|
/// | `id = ".."` | The function's id is computed from this text. Callers of other builds find the function after it is renamed or its signature has changed. | computed from the declaration: package, version up to compatibility, module, trait, function, types |
/// | `result` | The return type is an alias of `Result` with another name. | fallible if the type is called `Result` |
/// | `one_way` | The function has no result. The call is complete when it is written. | the worker answers each call |
/// | `no_cancel` | The function runs to its end if the caller drops the call or its deadline passes. | the function is dropped at its next await point |
///
/// The one-way functions of a connection begin in the order in which the calls were sent. On a worker
/// with several threads, a call with a result can overtake one-way calls that were sent before it. If
/// a one-way call fails, the worker writes a line to stderr.
///
/// ## Reserved names
///
/// Every client has the functions of `WorkerClient`, `Control`, `Clone` and `Debug`. A worker
/// function with the same name would hide one of them, so these names are errors: `client`,
/// `clone`, `close`, `close_server`, `closed`, `fmt`, `from_client`, `is_closed`, `kill`, `label`, `logs`,
/// `shutdown`, `stats`, `worker_id`.
///
/// # On an impl
///
/// On the impl of a worker trait, the attribute makes the type a worker type, which can be started
/// in a process of its own:
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
/// The type implements `WorkerState`, is `Send` and `Sync`, and has no generic parameters of the
/// impl. It has one `#[worker]` impl. If the trait has a context, then the state of the context
/// implements `ConnectionState` for the type.
///
/// # Arguments
///
/// | argument | on | meaning | default |
/// |---|---|---|---|
/// | `crate = path` | trait, impl | path of the crate `rpc-parallel` | `::rpc_parallel` |
/// | `client = path` | impl | type of the client | path of the trait, with `Client` added |
/// | `id = ".."` | impl | the id of the worker type is computed from this text | computed from package, version up to compatibility, module, type and trait |
#[proc_macro_attribute]
pub fn worker(args: TokenStream, item: TokenStream) -> TokenStream {
    let file = item.clone().into_iter().next().and_then(|token| token.span().local_file());
    let source = || std::fs::read_to_string(file?).ok();
    worker::expand(args.into(), &item.into(), source).into()
}

/// Makes a function one that also runs in processes of its own.
///
/// ```
/// use rpc_parallel::prelude::*;
///
/// #[rpc_parallel::process]
/// fn lines(path: &str) -> Result<usize, AnyError> {
///     Ok(std::fs::read_to_string(path)?.lines().count())
/// }
///
/// #[rpc_parallel::entry]
/// async fn main() -> Result<(), AnyError> {
///     assert!(lines("Cargo.toml")? > 0); // in this process
///     assert!(lines::run("Cargo.toml").await? > 0); // in a new process, for this call
///     Ok(())
/// }
/// ```
///
/// The function stays as it is written. The attribute adds a type with the same name, which has
/// these functions:
///
/// | function | meaning |
/// |---|---|
/// | `lines::run(path)` | Runs the function in a new process, which ends after this one call. |
/// | `lines::start(path)` | Starts a job: a call that runs independently, and that any process may join. Functions without pipes have it. |
/// | `lines::reuse()` | Starts a process for many calls. It is a value of the type `lines`. |
/// | `process.call(path)` | Calls the function in such a process. |
/// | `process.process()` | Returns the client of such a process, for example to shut it down. |
/// | `lines::FUNCTION` | The function as a value. |
///
/// One `use` imports both the function and the type. Names of variables are free: `let lines = 3;`
/// hides neither.
///
/// # Functions
///
/// - The function is a free `fn` or `async fn`. It has no generic parameters and no `Context`.
/// - Arguments and results are those of [worker functions](macro@worker): owned types, `&str`,
///   `&[T]` and `&T` that implement serde's traits, `Pipe`, `PipeWriter`, and results that hold
///   pipes. Patterns and `mut` are allowed in arguments.
/// - The future of an `async fn` is `Send`.
/// - A `fn` runs on the thread that serves its process. So a process runs one call of it at a time.
/// - The process is started from the executable of the program, so the program needs
///   [`#[entry]`](macro@entry), or [`#[rpc_parallel::test]`](macro@test) in tests. It shares no
///   memory with the caller: a `static` has the value that it has when a program starts.
///
/// # Pipes
///
/// A process ends only after its pipes have ended or were dropped. So nothing is lost that the
/// function has written to a pipe before it returned.
///
/// # Arguments
///
/// | argument | meaning | default |
/// |---|---|---|
/// | `id = ".."` | The function's id is computed from this text. | computed from package, version up to compatibility, module, name and types |
/// | `result` | The return type is an alias of `Result` with another name. | fallible if the type is called `Result` |
/// | `crate = path` | Path of the crate `rpc-parallel`. | `::rpc_parallel` |
#[proc_macro_attribute]
pub fn process(args: TokenStream, item: TokenStream) -> TokenStream {
    process::expand(args.into(), &item.into()).into()
}

/// Makes `main` the entry point of the master and of its workers.
///
/// ```
/// #[rpc_parallel::entry]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     // Only the master runs this.
///     Ok(())
/// }
/// ```
///
/// The master and its workers run the same executable. The attribute decides before the first line
/// of `main` whether the process is a master or a worker. A worker does not run `main`.
///
/// `main` can be `async` or not, return every type that a `main` can return, and take the arguments
/// of the program as `Vec<String>`, `Vec<OsString>`, `std::env::Args` or `std::env::ArgsOs`. When
/// `main` returns, its workers end, and the process waits up to 2 s for them.
///
/// # Arguments
///
/// | argument | meaning | default |
/// |---|---|---|
/// | `flavor = ".."` | Runtime of an async `main`: `"current_thread"` or `"multi_thread"`. | `"current_thread"` |
/// | `threads = 4` | Number of threads of a `"multi_thread"` runtime. | number of CPUs |
/// | `worker(flavor = .., threads = ..)` | The same for the runtime of each worker. | `"current_thread"` |
/// | `settings = ..` | The [`Settings`] of the program and its workers. | `Settings::default()` |
/// | `worker_logs = true` | Workers keep their logs for `logs()`. Needs the feature `tracing`. | `false` |
/// | `snapshot` | The master takes a [`Snapshot`], from which workers can be forked. | no snapshot |
/// | `snapshot = warm` | The same, after the function `warm` has run in the process of the snapshot. | no snapshot |
/// | `crate = path` | Path of the crate `rpc-parallel`. | `::rpc_parallel` |
///
/// The value of `settings` is any expression of type `Settings`, or a `Result` of it. Only the
/// master evaluates it. If the settings are invalid, the program prints the reason and exits with
/// code 2.
///
/// The value of `snapshot` is the path of a function without parameters, which returns
/// `Result<(), E>` with any `E` that converts to `BoxError`. `Snapshot::of_entry` returns the
/// snapshot, or why it could not be taken.
///
/// ```
/// use rpc_parallel::Settings;
///
/// #[rpc_parallel::entry(settings = Settings::default().with_max_message_size(1 << 30))]
/// async fn main() {}
/// ```
///
/// # Other runtimes
///
/// `#[entry]` starts the runtime of an async `main`, so an attribute like `#[tokio::main]` below it
/// is an error. Above it, such an attribute runs first and makes `main` a sync function that starts
/// a runtime of its own. `flavor` and `threads` are errors there, as on each sync `main`.
///
/// [`Settings`]: https://docs.rs/rpc-parallel/latest/rpc_parallel/struct.Settings.html
/// [`Snapshot`]: https://docs.rs/rpc-parallel/latest/rpc_parallel/launch/struct.Snapshot.html
#[proc_macro_attribute]
pub fn entry(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(args.into(), &item.into()).into()
}

/// Makes a function a test in which workers can be started.
///
/// The test runs under `cargo test` and `cargo nextest`.
///
/// ```
/// # use rpc_parallel::prelude::*;
/// # #[rpc_parallel::worker]
/// # pub trait Arithmetic {
/// #     async fn sum(&self, xs: &[u64]) -> u64;
/// # }
/// # #[derive(Default, WorkerState)]
/// # struct Calculator;
/// # #[rpc_parallel::worker]
/// # impl Arithmetic for Calculator {
/// #     async fn sum(&self, xs: &[u64]) -> u64 {
/// #         xs.iter().sum()
/// #     }
/// # }
/// #[rpc_parallel::test]
/// async fn sum_adds_all_numbers() {
///     let calculator = Calculator::spawn(()).await.expect("start a worker");
///
///     let sum = calculator.sum(&[1, 2]).await;
///
///     assert_eq!(sum.expect("the worker answers"), 3);
/// }
/// ```
///
/// The attribute takes the arguments of [`macro@entry`]. The function can be `async` or not, and
/// has no parameters. `#[should_panic]`, `#[ignore]` and return types work as with `#[test]`. At
/// its end the test waits until the output of its workers is written; other tests do not.
///
/// # Other tests of the executable
///
/// A worker of a test is the test executable, started with arguments that select a registered test.
/// So one `#[rpc_parallel::test]` in an executable is enough: `#[test]` and `#[tokio::test]`
/// functions of the same executable can start workers, too, in any order. In an executable without
/// one, each start of a worker in a test fails with `SpawnErrorKind::NotInitialized`.
///
/// # Settings
///
/// All tests of an executable share the values of `settings`, `worker(..)` and `worker_logs`,
/// because they share a process. If two registered tests differ in these, each registered test
/// fails, and so does each start of a worker in other tests. The error names two of the tests.
/// `Spawner::settings` sets the settings of one worker. `flavor` and `threads` apply to one test
/// and can differ.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(args.into(), &item.into()).into()
}

/// Implements `WorkerState` for a type with a `Default`, as a state that is made without an
/// argument.
///
/// ```
/// use rpc_parallel::WorkerState;
///
/// #[derive(Default, WorkerState)]
/// struct Calculator;
/// ```
///
/// `WorkerState::Init` is `()`, so `Calculator::spawn(())` starts the worker. A type whose state
/// needs an argument, or that can fail to start, implements `WorkerState` by hand.
///
/// # Arguments
///
/// `#[worker_state(crate = path)]` beside the derive sets the path of the crate `rpc-parallel`.
/// Default: `::rpc_parallel`.
#[proc_macro_derive(WorkerState, attributes(worker_state))]
pub fn worker_state(item: TokenStream) -> TokenStream {
    state::expand(item.into()).into()
}
