//! A file with the process id of the process that supervises a program.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{CWD, FileType};

use super::locked::{is_at, open_own, try_lock};
use crate::connection::diagnose;
use crate::wire::WorkerId;

/// How often the start looks again when other programs create and remove the same file.
const ATTEMPTS: usize = 100;

/// A longer file is not a pid file.
const MAX_LEN: u64 = 32;

/// Why there is no pid file.
#[derive(Debug)]
pub(super) enum PidFileError {
    /// A process that runs holds the file, in which this number is.
    InUse(u32),
    Io(io::Error),
}

impl From<io::Error> for PidFileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A pid file, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl PidFile {
    /// Creates a file with the id of this process. It appears with its content and its lock.
    ///
    /// # Errors
    ///
    /// A process that runs holds the file, another file is there, or the system refuses.
    pub(super) fn create(path: &Path) -> Result<Self, PidFileError> {
        let path = std::path::absolute(path)?;
        let new = NewFile::create(&path)?;
        for _ in 0..ATTEMPTS {
            match fs::hard_link(&new.path.0, &path) {
                Ok(()) => return Ok(new.into_pid_file(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
            let mut old = match open_own(CWD, &path, FileType::RegularFile) {
                Ok(old) => File::from(old),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let pid = read_pid(&mut old)?;
            if !try_lock(&old)? {
                return Err(PidFileError::InUse(pid));
            }
            // Another program may have replaced it before the lock was taken. Whoever has the lock of
            // the file at this path is the only one to replace it.
            if is_at(&old, CWD, &path)? {
                fs::rename(&new.path.0, &path)?;
                return Ok(new.into_pid_file(path));
            }
        }
        Err(io::Error::other("other programs create and remove it all the time").into())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let removed = match is_at(&self.file, CWD, &self.path) {
            Ok(true) => fs::remove_file(&self.path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            let path = self.path.display();
            diagnose(format_args!("failed to remove the pid file `{path}`: {error}"));
        }
    }
}

/// A locked file under another name in the same directory.
struct NewFile {
    path: NewPath,
    file: File,
}

/// The name of the file, which is removed when this is dropped. After a `rename` nothing is there.
struct NewPath(PathBuf);

impl NewFile {
    fn create(beside: &Path) -> io::Result<Self> {
        let Some(name) = beside.file_name() else {
            return Err(io::Error::other("the path has no file name"));
        };
        let mut new_name = name.to_owned();
        new_name.push(format!(".{}", WorkerId::random()));
        let path = beside.with_file_name(new_name);
        let file = File::options().write(true).create_new(true).mode(0o644).open(&path)?;
        let mut new = Self { path: NewPath(path), file };
        if !try_lock(&new.file)? {
            return Err(io::Error::other("another process has locked a new file"));
        }
        new.file.write_all(format!("{}\n", process::id()).as_bytes())?;
        Ok(new)
    }

    fn into_pid_file(self, path: PathBuf) -> PidFile {
        PidFile { path, file: self.file }
    }
}

impl Drop for NewPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads the content of a pid file. A file with another content must not be replaced.
fn read_pid(file: &mut File) -> io::Result<u32> {
    let mut text = String::new();
    let read = file.take(MAX_LEN).read_to_string(&mut text);
    let pid = read.ok().and_then(|_| text.trim().parse().ok());
    pid.ok_or_else(|| io::Error::other("expected a process id in it, found something else"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("make a directory")
    }

    fn refusal(path: &Path) -> String {
        match PidFile::create(path).expect_err("it is refused") {
            PidFileError::Io(error) => error.to_string(),
            PidFileError::InUse(pid) => format!("in use by {pid}"),
        }
    }

    #[test]
    fn file_holds_pid_and_is_removed_with_nothing_left() {
        let directory = directory();
        let path = directory.path().join("pid");

        let file = PidFile::create(&path).expect("nothing is there");
        let content = fs::read_to_string(&path).expect("read the file");
        let entries = fs::read_dir(directory.path()).expect("list the directory").count();
        drop(file);

        assert_eq!((content, entries), (format!("{}\n", process::id()), 1));
        assert_eq!(fs::read_dir(directory.path()).expect("list the directory").count(), 0);
    }

    #[test]
    fn stale_file_is_replaced_even_if_its_pid_was_reused() {
        let directory = directory();
        let path = directory.path().join("pid");
        fs::write(&path, "1\n").expect("write a file");

        let file = PidFile::create(&path).expect("no process holds it");

        assert_eq!(fs::read_to_string(&path).ok(), Some(format!("{}\n", process::id())));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn held_file_is_refused_with_its_pid_and_kept() {
        let directory = directory();
        let path = directory.path().join("pid");
        let _held = PidFile::create(&path).expect("nothing is there");

        assert_eq!(refusal(&path), format!("in use by {}", process::id()));

        assert_eq!(fs::read_dir(directory.path()).expect("list the directory").count(), 1);
    }

    #[test]
    fn other_files_are_refused_and_kept() {
        let directory = directory();
        let [text, empty, link, folder] =
            ["text", "empty", "link", "folder"].map(|it| directory.path().join(it));
        fs::write(&text, "a poem").expect("write a file");
        fs::write(&empty, "").expect("write a file");
        symlink("/nonexistent/file", &link).expect("make a link");
        fs::create_dir(&folder).expect("make a directory");

        let refusals = [&text, &empty, &link, &folder].map(|it| refusal(it));

        let content = "expected a process id in it, found something else";
        let folder = "a file of another type has its name";
        assert_eq!(refusals, [content, content, "it is a symbolic link", folder]);
        assert_eq!(fs::read_dir(directory.path()).expect("list the directory").count(), 4);
    }

    #[test]
    fn file_that_replaced_ours_is_not_removed() {
        let directory = directory();
        let path = directory.path().join("pid");
        let ours = PidFile::create(&path).expect("nothing is there");
        fs::remove_file(&path).expect("remove the file");
        fs::write(&path, "7\n").expect("write a file");

        drop(ours);

        assert_eq!(fs::read_to_string(&path).ok().as_deref(), Some("7\n"));
    }

    #[test]
    fn only_one_of_many_starts_replaces_stale_file() {
        let directory = directory();
        let path = directory.path().join("pid");
        fs::write(&path, "1\n").expect("write a file");

        let held: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| PidFile::create(&path))).collect();
            starts.into_iter().filter_map(|it| it.join().expect("no panic").ok()).collect()
        });

        assert_eq!(held.len(), 1);
    }
}
