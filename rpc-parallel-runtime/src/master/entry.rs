//! What `#[entry]` and `#[test]` expand to: it decides what a process is before the user's code.

use std::env::{Args, ArgsOs};
use std::ffi::OsString;
use std::io;
use std::process;
use std::time::Duration;

use super::direct::{Master, StartupError};
use crate::connection::{AnyError, diagnose};
use crate::launch::{Children, Flavor, Mark, Outputs, Recipe, Role, is_name_of_worker, work};
use crate::wire::{Settings, SettingsError};

/// The entry of a program or of a test.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Entry {
    flavor: Flavor,
    worker_flavor: Flavor,
    settings: Option<fn() -> Result<Settings, SettingsError>>,
    worker_logs: bool,
}

impl Entry {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn flavor(self, flavor: Flavor) -> Self {
        Self { flavor, ..self }
    }

    #[must_use]
    pub fn worker_flavor(self, worker_flavor: Flavor) -> Self {
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
        self.begin(None);
        let _end = EndWorkers;
        main()
    }

    /// Runs an async `main`, in a master.
    pub fn run_async<T, F: Future<Output = T>>(self, main: impl FnOnce() -> F) -> T {
        self.begin(None);
        let _end = EndWorkers;
        self.block_on(main)
    }

    /// Runs a sync test, in a master.
    pub fn test_sync<T>(self, path: &str, test: impl FnOnce() -> T) -> T {
        self.begin(Some(path));
        let _flush = FlushOutputs;
        test()
    }

    /// Runs an async test, in a master.
    pub fn test_async<T, F: Future<Output = T>>(self, path: &str, test: impl FnOnce() -> F) -> T {
        self.begin(Some(path));
        let _flush = FlushOutputs;
        self.block_on(test)
    }

    fn block_on<T, F: Future<Output = T>>(&self, main: impl FnOnce() -> F) -> T {
        let runtime = self.flavor.build().unwrap_or_else(|it| give_up("make a tokio runtime", &it));
        runtime.block_on(main())
    }

    /// Becomes a worker, if that is what this process was started to be, and a master otherwise.
    fn begin(&self, test: Option<&str>) {
        if Mark::is_set() {
            work();
        }
        if Mark::is_known() && has_arguments_of_a_worker(test) {
            let why = "its stdin is not the socket to its master; what has started it must leave its \
                       stdin alone";
            give_up("become a worker", &io::Error::other(why));
        }
        let settings = self.settings.map_or_else(|| Ok(Settings::default()), |it| it());
        let settings = settings.unwrap_or_else(|it| give_up("use its settings", &it));
        let master = Master::builder().settings(settings).worker_flavor(self.worker_flavor);
        let master = master.keep_worker_logs(self.worker_logs);
        let Some(test) = test else {
            master.start().unwrap_or_else(|it| give_up("begin", &it));
            return;
        };
        // A test binary becomes a worker in any of its tests: in this one, for instance.
        match master.worker_args(test_args(test)).chatty(true).start() {
            Ok(_) => {}
            // The first of several tests has done it for all.
            Err(StartupError::AlreadyMaster) => {
                let same = |it: &Recipe| {
                    let in_force = it.settings_for(Some(settings));
                    it.settings == in_force
                        && it.worker_flavor == self.worker_flavor
                        && it.worker_logs == self.worker_logs
                };
                assert!(
                    Role::recipe().is_some_and(same),
                    "another test of this executable has begun with other settings of workers; \
                     give all its `#[rpc_parallel::test]`s the same, or use an executable for each"
                );
            }
            Err(error) => give_up("begin", &error),
        }
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

/// Lets nothing that workers have written be lost when a test ends, however it ends. Workers of
/// tests that run beside it are not its own to end.
struct FlushOutputs;

impl Drop for FlushOutputs {
    fn drop(&mut self) {
        Outputs::flush_all();
    }
}

/// Says whether this process has the arguments of a worker: as a master it would start others like
/// itself, for ever.
fn has_arguments_of_a_worker(test: Option<&str>) -> bool {
    let mut arguments = std::env::args_os().skip(1);
    match test {
        Some(path) => arguments.eq(test_args(path)),
        None => arguments.next().is_some_and(|it| is_name_of_worker(&it)),
    }
}

/// Returns the arguments that make libtest run one test and nothing else.
fn test_args(path: &str) -> [&str; 6] {
    // libtest leaves the name of the crate out.
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    ["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1", "--quiet"]
}

fn give_up(what: &str, error: &(dyn std::error::Error + 'static)) -> ! {
    let error = AnyError::of(error);
    diagnose(format_args!("cannot {what}: {error}"));
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
