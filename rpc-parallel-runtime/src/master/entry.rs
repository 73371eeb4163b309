//! What `#[entry]` expands to: it decides what a process is before the user's code.

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
    BootToken, Children, Outputs, RuntimeFlavor, StartedAs, block_on, is_name_of_worker, work,
};
use crate::wire::{Settings, SettingsError};

/// What `#[entry]` and `#[test]` say about a process and its workers.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Entry {
    flavor: RuntimeFlavor,
    worker_flavor: RuntimeFlavor,
    settings: Option<fn() -> Result<Settings, SettingsError>>,
    worker_logs: bool,
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

    /// Without the feature `tracing` this has no effect.
    #[must_use]
    pub fn worker_logs(self, worker_logs: bool) -> Self {
        Self { worker_logs, ..self }
    }

    /// Runs a sync `main`, in a master.
    pub fn run_sync<T>(self, main: impl FnOnce() -> T) -> T {
        self.begin();
        let _end = EndWorkers;
        main()
    }

    /// Runs an async `main`, in a master.
    pub fn run_async<T, F: Future<Output = T>>(self, main: impl FnOnce() -> F) -> T {
        self.begin();
        let _end = EndWorkers;
        self.block_on(main)
    }

    pub(super) fn block_on<T, F: Future<Output = T>>(&self, main: impl FnOnce() -> F) -> T {
        let mut output = None;
        block_on(&self.runtime(), pin!(async { output = Some(main().await) }));
        output.expect("`block_on` returns when the future has ended")
    }

    fn runtime(&self) -> Runtime {
        self.flavor.build().unwrap_or_else(|it| give_up("make a tokio runtime", &it))
    }

    /// Becomes a worker, if that is what this process was started as, and a master otherwise.
    fn begin(&self) {
        work_if_started_as_worker(|mut it| it.next().is_some_and(|it| is_name_of_worker(&it)));
        let started = self.master().map_err(StartupError::Settings).and_then(MasterBuilder::start);
        started.unwrap_or_else(|it| give_up("start the program", &it));
    }

    /// Returns the configuration of the master.
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

/// Becomes a worker, if that is what this process was started as. Exits with an error if its
/// stdin is not the control socket any more: as a master it would start others like itself.
///
/// `worker_args` says whether arguments are those of a worker. Behind a launcher that forks
/// only they can tell.
pub(super) fn work_if_started_as_worker(worker_args: impl FnOnce(Skip<ArgsOs>) -> bool) {
    let replaced = match StartedAs::here() {
        StartedAs::Worker => work(),
        StartedAs::WorkerWithoutSocket => true,
        StartedAs::Program => {
            BootToken::inherited().is_some() && worker_args(std::env::args_os().skip(1))
        }
    };
    if replaced {
        give_up("become a worker", &StartupError::StdinReplaced);
    }
}

/// How long `main` waits at its end for workers to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Ends what workers there are when `main` ends, however it ends, and waits for them: what they say
/// until then is not lost, and who waits for this process waits for all of it.
struct EndWorkers;

impl Drop for EndWorkers {
    fn drop(&mut self) {
        Children::get().end_all(END_TIMEOUT);
        Outputs::flush_all();
    }
}

pub(super) fn give_up(what: &str, error: &(dyn std::error::Error + 'static)) -> ! {
    let error = AnyError::of(error);
    diagnose(format_args!("failed to {what}: {error}"));
    process::exit(2)
}

/// What `settings = ..` of an entry can be.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` must be `Settings`, or the `Result` of making some",
    label = "no `Settings`",
    note = "write `settings = Settings::default().with_max_message_size(1 << 20)`, or name a \
            function that returns such a value, `settings = settings()`"
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

/// What a `main` can take as its one parameter: the arguments of the program.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made of the program's arguments",
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
        std::env::args().collect()
    }
}

impl FromArgs for Vec<OsString> {
    fn from_args() -> Self {
        std::env::args_os().collect()
    }
}
