//! A worker type that describes the process it runs in.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::OnceLock;

use rpc_parallel::launch::SealedSlice;
use rpc_parallel::prelude::*;

/// Data that a snapshot holds.
pub static TABLE: OnceLock<Vec<u64>> = OnceLock::new();

/// Data that a snapshot holds in memory of its own.
pub static SEALED: OnceLock<SealedSlice<u64>> = OnceLock::new();

/// The functions of [`Inspector`].
#[rpc_parallel::worker]
pub trait Inspect {
    /// Returns an element of [`TABLE`].
    fn table(&self, index: usize) -> Option<u64>;
    /// Returns an element of [`SEALED`].
    fn sealed(&self, index: usize) -> Option<u64>;
    /// Returns a hash of nothing, which depends on the keys of new hash tables.
    fn hash(&self) -> u64;
    /// Logs a message, with the feature `tracing`.
    fn log(&self, message: &str);
    /// Returns the environment.
    fn environment(&self) -> BTreeMap<String, String>;
    /// Returns the current directory.
    fn directory(&self) -> PathBuf;
    /// Returns the arguments.
    fn arguments(&self) -> Vec<String>;
    /// Returns what each descriptor refers to.
    fn descriptors(&self) -> Vec<String>;
    /// Returns a field of `/proc/self/status`.
    fn status(&self, field: &str) -> Option<String>;
    /// Returns the text of a file in `/proc/self`.
    fn proc_file(&self, name: &str) -> Result<String, AnyError>;
    /// Takes a snapshot, and returns the error.
    fn snapshot_error(&self) -> String;
}

/// A worker that describes its process.
#[derive(Debug, Default, WorkerState)]
pub struct Inspector;

/// Returns a hash of nothing, which depends on the keys of new hash tables.
#[must_use]
pub fn hash() -> u64 {
    RandomState::new().hash_one(())
}

/// Returns what each descriptor of this process refers to.
///
/// # Panics
///
/// Panics if `/proc` is not mounted.
#[must_use]
pub fn descriptors() -> Vec<String> {
    let numbers = fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten();
    let targets = numbers.filter_map(|it| fs::read_link(it.path()).ok());
    // Not the descriptor by which this function lists them.
    let targets = targets.filter(|it| !it.starts_with("/proc"));
    targets.map(|it| it.to_string_lossy().into_owned()).collect()
}

/// Returns a field of `/proc/self/status`.
#[must_use]
pub fn status(field: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

#[rpc_parallel::worker]
impl Inspect for Inspector {
    fn table(&self, index: usize) -> Option<u64> {
        TABLE.get()?.get(index).copied()
    }

    fn sealed(&self, index: usize) -> Option<u64> {
        SEALED.get()?.get(index).copied()
    }

    fn hash(&self) -> u64 {
        hash()
    }

    fn log(&self, message: &str) {
        #[cfg(feature = "tracing")]
        tracing::info!("{message}");
        #[cfg(not(feature = "tracing"))]
        let _ = message;
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let text = |it: OsString| it.to_string_lossy().into_owned();
        env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn directory(&self) -> PathBuf {
        env::current_dir().expect("the directory exists")
    }

    fn arguments(&self) -> Vec<String> {
        env::args().collect()
    }

    fn descriptors(&self) -> Vec<String> {
        descriptors()
    }

    fn status(&self, field: &str) -> Option<String> {
        status(field)
    }

    fn proc_file(&self, name: &str) -> Result<String, AnyError> {
        Ok(fs::read_to_string(PathBuf::from("/proc/self").join(name))?)
    }

    fn snapshot_error(&self) -> String {
        match rpc_parallel::launch::Snapshot::of_entry() {
            Ok(snapshot) => format!("{snapshot:?}"),
            Err(error) => error.to_string(),
        }
    }
}
