//! The code that `#[entry]` expands to: it gives the process its role before `main` runs.

use std::env::{Args, ArgsOs};
use std::ffi::OsString;
use std::iter::Skip;
use std::pin::pin;
use std::process;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::expert::{Master, MasterBuilder, StartupError};
use crate::connection::{AnyError, diagnose};
use crate::launch::{
    BootToken, Children, Outputs, RuntimeFlavor, StartedAs, block_on, end_snapshot_of_entry,
    initial_signals, is_name_of_worker, take_snapshot_of_entry, work,
};
use crate::wire::{Settings, SettingsError};
use crate::worker::BoxError;

/// The configuration of a process and its workers by `#[entry]` or `#[test]`.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Entry {
    flavor: RuntimeFlavor,
    worker_flavor: RuntimeFlavor,
    settings: Option<fn() -> Result<Settings, SettingsError>>,
    worker_logs: bool,
    snapshot: TakesSnapshot,
}

/// Whether `#[entry]` takes a snapshot.
#[derive(Clone, Copy, Debug, Default)]
enum TakesSnapshot {
    #[default]
    No,
    Yes,
    /// After this function has run.
    After(fn() -> Result<(), BoxError>),
}

impl Entry {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn flavor(self, flavor: RuntimeFlavor) -> Self {
        Self { flavor, ..self }
    }

    #[must_use]
    pub fn worker_flavor(self, worker_flavor: RuntimeFlavor) -> Self {
        Self { worker_flavor, ..self }
    }

    #[must_use]
    pub fn settings(self, settings: fn() -> Result<Settings, SettingsError>) -> Self {
        Self { settings: Some(settings), ..self }
    }

    /// Sets whether workers keep their logs. This has no effect without the feature `tracing`.
    #[must_use]
    pub fn worker_logs(self, worker_logs: bool) -> Self {
        Self { worker_logs, ..self }
    }

    #[must_use]
    pub fn snapshot(self) -> Self {
        Self { snapshot: TakesSnapshot::Yes, ..self }
    }

    #[must_use]
    pub fn warm_snapshot(self, warm: fn() -> Result<(), BoxError>) -> Self {
        Self { snapshot: TakesSnapshot::After(warm), ..self }
    }

    /// Runs a `main` that is not async, in a master.
    pub fn run_sync<T>(self, main: impl FnOnce() -> T) -> T {
        self.assume_role();
        let _end = EndWorkers;
        main()
    }

    /// Runs an async `main`, in a master.
    pub fn run_async<T, F: Future<Output = T>>(self, main: impl FnOnce() -> F) -> T {
        self.assume_role();
        let _end = EndWorkers;
        self.block_on(main)
    }

    pub(super) fn block_on<T, F: Future<Output = T>>(&self, main: impl FnOnce() -> F) -> T {
        let mut output = None;
        block_on(&self.runtime(), pin!(async { output = Some(main().await) }));
        output.expect("`block_on` returns after the future has completed")
    }

    fn runtime(&self) -> Runtime {
        self.flavor.build().unwrap_or_else(|it| exit_with_error("make a tokio runtime", &it))
    }

    /// Becomes a worker if this process was started as one, and a master otherwise.
    fn assume_role(&self) {
        work_if_started_as_worker(|mut arguments| {
            arguments.next().is_some_and(|first| is_name_of_worker(&first))
        });
        // User code may install signal handlers from here on.
        initial_signals();
        // Before this process has a role, or code of the user has run.
        match self.snapshot {
            TakesSnapshot::No => {}
            TakesSnapshot::Yes => take_snapshot_of_entry(None),
            TakesSnapshot::After(warm) => take_snapshot_of_entry(Some(warm)),
        }
        let started = self.master().map_err(StartupError::Settings).and_then(MasterBuilder::start);
        started.unwrap_or_else(|it| exit_with_error("start the program", &it));
    }

    /// Returns the builder of the master.
    ///
    /// # Errors
    ///
    /// The settings are invalid.
    pub(super) fn master(&self) -> Result<MasterBuilder, SettingsError> {
        let settings = self.settings.map_or_else(|| Ok(Settings::default()), |it| it())?;
        settings.validate()?;
        let master = Master::builder().settings(settings).worker_flavor(self.worker_flavor);
        Ok(master.keep_worker_logs(self.worker_logs))
    }
}

/// Becomes a worker if this process was started as one. Exits with an error if it was, but its
/// stdin is no longer the control socket: as a master it would start more processes like itself.
///
/// `are_worker_args` returns whether the arguments of this process are those of a worker. If a
/// launcher forks, only the arguments identify a worker whose stdin was replaced.
pub(super) fn work_if_started_as_worker(are_worker_args: impl FnOnce(Skip<ArgsOs>) -> bool) {
    let stdin_replaced = match StartedAs::here() {
        StartedAs::Worker => work(),
        StartedAs::WorkerWithoutSocket => true,
        StartedAs::Program => {
            BootToken::inherited().is_some() && are_worker_args(std::env::args_os().skip(1))
        }
    };
    if stdin_replaced {
        exit_with_error("become a worker", &StartupError::StdinReplaced);
    }
}

/// The time for which the end of `main` waits for workers to exit.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Shuts all workers down and waits for them when it is dropped, however `main` ends.
///
/// Output that workers write until they exit is passed on. A process that waits for this one also
/// waits for the workers.
struct EndWorkers;

impl Drop for EndWorkers {
    fn drop(&mut self) {
        Children::get().end_all(END_TIMEOUT);
        end_snapshot_of_entry();
        Outputs::flush_all();
    }
}

/// Writes the error to stderr and exits with code 2.
pub(super) fn exit_with_error(tried: &str, error: &(dyn std::error::Error + 'static)) -> ! {
    let error = AnyError::of(error);
    diagnose(format_args!("failed to {tried}: {error}"));
    process::exit(2)
}

/// The types of `settings = ..` in the arguments of `#[entry]` and `#[test]`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "expected `Settings` or a `Result` of `Settings`, found `{Self}`",
    label = "not `Settings`",
    note = "write `settings = Settings::default().with_max_message_size(1 << 20)`, or call a \
            function that returns settings: `settings = settings()`"
)]
pub trait IntoSettings {
    fn into_settings(self) -> Result<Settings, SettingsError>;
}

#[doc(hidden)]
pub fn settings<T: IntoSettings>(settings: T) -> Result<Settings, SettingsError> {
    settings.into_settings()
}

impl IntoSettings for Settings {
    fn into_settings(self) -> Result<Settings, SettingsError> {
        Ok(self)
    }
}

impl IntoSettings for Result<Settings, SettingsError> {
    fn into_settings(self) -> Result<Settings, SettingsError> {
        self
    }
}

/// The results of the function in `#[entry(snapshot = function)]`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the function of a snapshot cannot return `{Self}`",
    label = "not a `Result<(), E>` whose error converts to `BoxError`",
    note = "let the function return `Result<(), rpc_parallel::BoxError>`"
)]
pub trait IntoWarmed {
    fn into_warmed(self) -> Result<(), BoxError>;
}

impl<E: Into<BoxError>> IntoWarmed for Result<(), E> {
    fn into_warmed(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

#[doc(hidden)]
pub fn warmed<T: IntoWarmed>(result: T) -> Result<(), BoxError> {
    result.into_warmed()
}

/// The types of the optional parameter of `main`, which receives the arguments of the program.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`main` cannot have a parameter of type `{Self}`",
    label = "not a list of arguments",
    note = "`main` can take `Vec<String>`, `Vec<OsString>`, `std::env::Args` or \
            `std::env::ArgsOs`, or nothing"
)]
pub trait FromArgs {
    fn from_args() -> Self;
}

#[doc(hidden)]
#[must_use]
pub fn from_args<T: FromArgs>() -> T {
    T::from_args()
}

impl FromArgs for Args {
    fn from_args() -> Self {
        std::env::args()
    }
}

impl FromArgs for ArgsOs {
    fn from_args() -> Self {
        std::env::args_os()
    }
}

impl FromArgs for Vec<String> {
    fn from_args() -> Self {
        let all = std::env::args_os().enumerate().map(|(position, argument)| {
            argument.into_string().map_err(|argument| NotUnicode { position, argument })
        });
        let all: Result<_, _> = all.collect();
        all.unwrap_or_else(|it| exit_with_error("read the arguments of the program", &it))
    }
}

/// An argument of the program is not Unicode, and `main` takes its arguments as `String`s.
#[derive(Debug, thiserror::Error)]
#[error(
    "argument {position} is not valid UTF-8: {argument:?}; a `main` with the parameter \
     `Vec<OsString>` takes any argument"
)]
struct NotUnicode {
    /// 1 for the first argument after the name of the program.
    position: usize,
    argument: OsString,
}

impl FromArgs for Vec<OsString> {
    fn from_args() -> Self {
        std::env::args_os().collect()
    }
}
