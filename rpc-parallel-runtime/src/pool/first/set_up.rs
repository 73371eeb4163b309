//! What a program has while it runs: its pid file and its run directory.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::FirstProcessError;
use super::pid_file::{PidFile, PidFileError};
use super::private_directory::PrivateDirectory;
use crate::pool::jobs::set_run_directory;

/// Which files a program has while it runs.
#[derive(Default)]
pub(super) struct Files {
    pub(super) pid_file: Option<PathBuf>,
    pub(super) run_directory_in: Option<PathBuf>,
}

/// The files of the program that runs. Dropping this removes them, which can block.
pub(super) struct SetUp {
    directory: Option<PrivateDirectory>,
    /// The pid file is the last to be removed, after the directory.
    _pid_file: Option<PidFile>,
    _only: OnlyRun,
}

impl SetUp {
    /// Creates the files, which can block.
    pub(super) fn create<E>(files: Files) -> Result<Self, FirstProcessError<E>> {
        let only = OnlyRun::begin().ok_or(FirstProcessError::AlreadyRunning)?;
        let pid_file = match files.pid_file {
            Some(path) => Some(PidFile::create(&path).map_err(|error| match error {
                PidFileError::InUse(pid) => FirstProcessError::PidFileInUse { path, pid },
                PidFileError::Io(error) => FirstProcessError::PidFile { path, error },
            })?),
            None => None,
        };
        let directory = match files.run_directory_in {
            Some(parent) => {
                let created = PrivateDirectory::create(&parent);
                let error = |error| FirstProcessError::RunDirectory { parent, error };
                Some(created.map_err(error)?)
            }
            None => None,
        };
        set_run_directory(directory.as_ref().map(|it| it.path().to_owned()));
        Ok(Self { directory, _pid_file: pid_file, _only: only })
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        set_run_directory(None);
        drop(self.directory.take());
    }
}

/// The one run of this process, because all jobs of the process belong to it.
struct OnlyRun;

static IS_RUNNING: AtomicBool = AtomicBool::new(false);

impl OnlyRun {
    fn begin() -> Option<Self> {
        (!IS_RUNNING.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for OnlyRun {
    fn drop(&mut self) {
        IS_RUNNING.store(false, Ordering::Release);
    }
}
