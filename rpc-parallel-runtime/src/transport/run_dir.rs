//! The directory in which this process's listeners stand: private, and gone with the last of them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Where the listeners of a process stand.
///
/// The directory has a random name and mode 0700, and exists only while a listener stands in it,
/// so that a process that dies without a word leaves at most what it was using: whoever held a
/// listener for it takes the rest away.
pub(crate) struct RunDir {
    path: Mutex<Option<PathBuf>>,
    listeners: AtomicU64,
}

impl RunDir {
    /// Returns the one of this process.
    pub(crate) fn get() -> &'static Self {
        static RUN_DIR: RunDir = RunDir { path: Mutex::new(None), listeners: AtomicU64::new(1) };
        &RUN_DIR
    }

    /// Binds a listener, at a path that never was another's.
    pub(crate) fn bind(&self) -> io::Result<(OwnedFd, PathBuf)> {
        // The directory cannot be guessed, so the name in it may be short: paths of sockets must.
        let name = self.listeners.fetch_add(1, Ordering::Relaxed).to_string();
        let mut directory = self.path.lock().expect("nobody panics while holding this lock");
        loop {
            let fresh = directory.is_none();
            if fresh {
                *directory = Some(create()?);
            }
            let path = directory.as_deref().unwrap_or(Path::new("/")).join(&name);
            match UnixListener::bind(&path) {
                Ok(listener) => return Ok((listener.into(), path)),
                // A worker that ended has taken away what it thought the last listener's directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !fresh => {
                    *directory = None;
                }
                Err(error) => return Err(at("listen at", &path, &error)),
            }
        }
    }

    /// Remembers that this process serves a listener, until the returned value is dropped.
    pub(crate) fn serving(path: PathBuf) -> ServedPath {
        served().push(path.clone());
        ServedPath(path)
    }

    /// Takes away all listeners that this process serves: it will not come to drop them.
    pub(crate) fn remove_all() {
        let paths = std::mem::take(&mut *served());
        paths.iter().for_each(|it| Self::remove(it));
    }

    /// Takes a listener away, and its directory when that was the last one.
    pub(crate) fn remove(path: &Path) {
        let _guard = Self::get().path.lock();
        // Either may be gone already: several processes clean up after each other.
        let _ = fs::remove_file(path);
        if let Some(directory) = path.parent() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// A listener that this process serves. Dropping it takes its path away.
pub(crate) struct ServedPath(PathBuf);

impl Drop for ServedPath {
    fn drop(&mut self) {
        served().retain(|it| *it != self.0);
        RunDir::remove(&self.0);
    }
}

fn served() -> MutexGuard<'static, Vec<PathBuf>> {
    static SERVED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    SERVED.lock().expect("nobody panics while holding this lock")
}

fn create() -> io::Result<PathBuf> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let path = std::env::temp_dir();
    let path = path.join(format!("rpc-parallel-{:016x}", u64::from_ne_bytes(random)));
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(at("create the directory", &path, &error)),
    }
}

fn at(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} `{}`: {error}", path.display()))
}
