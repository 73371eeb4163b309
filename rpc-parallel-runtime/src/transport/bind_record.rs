//! A record of the file that a socket has for a moment, so that the file is removed even if its
//! process is killed.
//!
//! The record is a symbolic link `rpc-parallel-<user id>-<slot>` beside the file, which names the
//! file. It exists from before the file is created until after it was removed. A process that
//! creates a record first looks at each slot, and removes the links of killed processes with their
//! files. There are few slots, so this does not list a directory, which may contain many files.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Stat, readlinkat, statat, symlinkat, unlinkat};
use rustix::io::{Errno, Result};
use rustix::process::geteuid;

use crate::wire::WorkerId;

/// The number of records of a user. If as many processes create a socket at the same time, the
/// others create theirs without a record.
const SLOTS: usize = 8;

/// The age at which a record is not that of a process which is creating a socket.
const LEFT_BEHIND_AGE: Duration = Duration::from_secs(10);

/// A record. Dropping it removes it.
pub(super) struct BindRecord<'a> {
    directory: &'a OwnedFd,
    /// The name of the link. `None` if all slots are in use.
    link: Option<String>,
}

impl<'a> BindRecord<'a> {
    /// Records that a file of a socket will have this name, and removes files that killed processes
    /// have left behind.
    ///
    /// # Errors
    ///
    /// No file can be created in the directory.
    pub(super) fn create(directory: &'a OwnedFd, file: &str) -> Result<Self> {
        let mut record = Self { directory, link: None };
        for slot in 0..SLOTS {
            let link = link_name(slot);
            remove_if_left_behind(directory, &link);
            if record.link.is_some() {
                continue;
            }
            match symlinkat(file, directory, &link) {
                Ok(()) => record.link = Some(link),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(record)
    }
}

impl Drop for BindRecord<'_> {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            // It fails if another process has removed it, because this one was stopped.
            let _ = unlinkat(self.directory, link, AtFlags::empty());
        }
    }
}

/// Returns the name of a socket's file, which identifies the worker.
pub(super) fn file_name(worker: WorkerId) -> String {
    format!("rpc-parallel-{worker}")
}

/// Returns whether a file is a socket of this user.
pub(super) fn is_own_socket(status: &Stat) -> bool {
    is_own(status, FileType::Socket)
}

fn is_own(status: &Stat, file_type: FileType) -> bool {
    FileType::from_raw_mode(status.st_mode) == file_type && status.st_uid == geteuid().as_raw()
}

fn link_name(slot: usize) -> String {
    format!("rpc-parallel-{}-{slot}", geteuid().as_raw())
}

/// Removes a record and its file if a killed process has left them behind. What cannot be removed
/// remains.
fn remove_if_left_behind(directory: &OwnedFd, link: &str) {
    let Ok(status) = statat(directory, link, AtFlags::SYMLINK_NOFOLLOW) else { return };
    if !is_own(&status, FileType::Symlink) || !is_old(&status) {
        return;
    }
    let file = readlinkat(directory, link, Vec::new());
    let file = file.ok().and_then(|it| it.into_string().ok()).filter(|it| is_file_name(it));
    if let Some(file) = file {
        let status = statat(directory, &file, AtFlags::SYMLINK_NOFOLLOW);
        if status.is_ok_and(|it| is_own_socket(&it)) {
            let _ = unlinkat(directory, &file, AtFlags::empty());
        }
    }
    let _ = unlinkat(directory, link, AtFlags::empty());
}

fn is_file_name(name: &str) -> bool {
    name.strip_prefix("rpc-parallel-").is_some_and(|it| it.parse::<WorkerId>().is_ok())
}

fn is_old(status: &Stat) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let modified = u64::try_from(status.st_mtime).unwrap_or_default();
    // A time in the future is not old.
    now.as_secs().saturating_sub(modified) > LEFT_BEHIND_AGE.as_secs()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use rustix::fs::{CWD, Timespec, Timestamps, utimensat};

    use super::*;

    /// A directory for sockets.
    struct Directory {
        path: tempfile::TempDir,
        opened: OwnedFd,
    }

    impl Directory {
        fn new() -> Self {
            let path = tempfile::tempdir().expect("make a directory");
            let opened = File::open(path.path()).expect("open the directory").into();
            Self { path, opened }
        }

        fn join(&self, name: &str) -> PathBuf {
            self.path.path().join(name)
        }

        /// Leaves a record and the file of a socket, as a process that is killed does.
        fn leave(&self, slot: usize) -> [PathBuf; 2] {
            let file = file_name(WorkerId::random());
            symlink(&file, self.join(&link_name(slot))).expect("make a link");
            let path = self.join(&file);
            drop(UnixListener::bind(&path).expect("make a socket"));
            [self.join(&link_name(slot)), path]
        }

        fn record(&self) -> io::Result<BindRecord<'_>> {
            Ok(BindRecord::create(&self.opened, &file_name(WorkerId::random()))?)
        }

        fn count(&self) -> usize {
            fs::read_dir(self.path.path()).expect("list the directory").count()
        }
    }

    /// Sets the time at which a file was modified to an hour ago.
    fn make_old(path: &Path) {
        let past = SystemTime::now() - Duration::from_secs(3600);
        let past = past.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
        let past = Timespec { tv_sec: past.as_secs() as i64, tv_nsec: 0 };
        let times = Timestamps { last_access: past, last_modification: past };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("the file is ours");
    }

    fn exists(path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    #[test]
    fn record_names_file_until_it_is_dropped() {
        let directory = Directory::new();
        let file = file_name(WorkerId::random());

        let record = BindRecord::create(&directory.opened, &file).expect("create a record");
        let named = fs::read_link(directory.join(&link_name(0)));
        drop(record);

        assert_eq!(named.ok(), Some(file.into()));
        assert_eq!(directory.count(), 0);
    }

    #[test]
    fn files_of_killed_processes_are_removed_from_all_slots() {
        let directory = Directory::new();
        for slot in [0, 3, SLOTS - 1] {
            directory.leave(slot).iter().for_each(|it| make_old(it));
        }

        drop(directory.record().expect("create a record"));

        assert_eq!(directory.count(), 0);
    }

    #[test]
    fn file_that_is_being_created_is_kept() {
        let directory = Directory::new();
        let [link, file] = directory.leave(0);
        make_old(&file);

        drop(directory.record().expect("create a record"));

        assert!(exists(&link) && exists(&file));
    }

    #[test]
    fn foreign_files_are_kept() {
        let directory = Directory::new();
        let text = directory.join(&file_name(WorkerId::random()));
        let outside = Directory::new();
        let [_, socket] = outside.leave(0);
        fs::write(&text, "text").expect("write a file");
        fs::write(directory.join(&link_name(0)), "no link").expect("write a file");
        symlink(&text, directory.join(&link_name(1))).expect("make a link");
        symlink(text.file_name().expect("it has a name"), directory.join(&link_name(2)))
            .expect("make a link");
        symlink(&socket, directory.join(&link_name(3))).expect("make a link");
        (0..4).for_each(|slot| make_old(&directory.join(&link_name(slot))));

        drop(directory.record().expect("create a record"));

        assert!(exists(&text) && exists(&socket));
        assert!(exists(&directory.join(&link_name(0))));
    }

    #[test]
    fn socket_without_free_slot_has_no_record() {
        let directory = Directory::new();
        let records: Vec<_> = (0..SLOTS).map(|_| directory.record()).collect();

        let further = directory.record().expect("it needs no slot");

        assert_eq!(further.link, None);
        assert_eq!(directory.count(), SLOTS);
        drop(records);
        assert_eq!(directory.count(), 0);
    }
}
