//! A private directory of a program, and the removal of those that killed programs have left behind.
//!
//! A program holds a lock on its directory. So a directory without a lock belongs to no program that
//! runs. All steps go through open descriptors, so that no other process can redirect them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::locked::{is_at, open_own, try_lock};
use crate::connection::diagnose;
use crate::wire::WorkerId;

/// How often the start tries another name if another program removes the new directory before it is
/// locked.
const ATTEMPTS: usize = 100;

/// The number of characters of the program's name in the name of the directory.
const MAX_NAME: usize = 50;

/// A directory that only this user can enter. Dropping this removes it with all that is in it.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    parent: OwnedFd,
    name: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    directory: OwnedFd,
}

impl PrivateDirectory {
    /// Creates a directory in `parent`, and removes those that killed runs of this program have left
    /// there.
    ///
    /// # Errors
    ///
    /// All users may replace files in `parent`, or the system refuses.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let prefix = format!("{}-", program_name()?);
        let path = fs::canonicalize(parent)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(CWD, &path, flags, Mode::empty())?;
        check_parent(&parent)?;
        remove_left_behind(&parent, &path, &prefix)?;
        for _ in 0..ATTEMPTS {
            let name = PathBuf::from(format!("{prefix}{}", WorkerId::random()));
            mkdirat(&parent, &name, Mode::RWXU)?;
            // Another start that finds the new directory without a lock removes it.
            if let Some(directory) = lock_directory(&parent, &name)? {
                // The umask may have removed permissions.
                fchmod(&directory, Mode::RWXU)?;
                return Ok(Self { path: path.join(&name), parent, name, directory });
            }
        }
        Err(io::Error::other("other programs remove each new directory"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.parent, &self.name, &self.directory) {
            let path = self.path.display();
            diagnose(format_args!("failed to remove the run directory `{path}`: {error}"));
        }
    }
}

/// Returns the name of the executable, in a form that may be part of a file name.
fn program_name() -> io::Result<String> {
    let executable = env::current_exe()?;
    let name = executable.file_name().unwrap_or(OsStr::new("program")).to_string_lossy();
    // The kernel appends this if the file was deleted.
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    Ok(name.chars().take(MAX_NAME).collect())
}

/// Refuses a directory in which all users may rename the files of others.
fn check_parent(parent: &OwnedFd) -> io::Result<()> {
    let mode = Mode::from_raw_mode(fstat(parent)?.st_mode);
    match mode.contains(Mode::WOTH) && !mode.contains(Mode::SVTX) {
        true => Err(io::Error::other("all users may replace files in it (set its sticky bit)")),
        false => Ok(()),
    }
}

/// Opens and locks a directory. Returns `None` if a program that runs has locked or removed it.
fn lock_directory(parent: &OwnedFd, name: &Path) -> io::Result<Option<OwnedFd>> {
    let directory = match open_own(parent, name, FileType::Directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let is_ours = try_lock(&directory)? && is_at(&directory, parent, name)?;
    Ok(is_ours.then_some(directory))
}

/// Removes the directories that killed runs of this program have left behind.
fn remove_left_behind(parent: &OwnedFd, path: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(descriptor_path(parent))? {
        let name = PathBuf::from(entry?.file_name());
        if !is_name(&name, prefix) {
            continue;
        }
        if let Err(error) = remove_if_left_behind(parent, &name) {
            let path = path.join(&name);
            let path = path.display();
            diagnose(format_args!(
                "failed to remove `{path}`, which a killed run has left: {error}"
            ));
        }
    }
    Ok(())
}

/// Returns whether this is the name of a directory of this program.
fn is_name(name: &Path, prefix: &str) -> bool {
    let id = name.to_str().and_then(|it| it.strip_prefix(prefix));
    id.is_some_and(|it| it.parse::<WorkerId>().is_ok())
}

fn remove_if_left_behind(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    // A directory of another user is not ours, and neither is a file or a link.
    let Ok(Some(directory)) = lock_directory(parent, name) else { return Ok(()) };
    let permissions = Mode::from_raw_mode(fstat(&directory)?.st_mode);
    if permissions.intersects(Mode::RWXG | Mode::RWXO) {
        return Ok(());
    }
    remove(parent, name, &directory)
}

/// Removes a locked directory with all that is in it. Links in it are removed, not followed.
fn remove(parent: &OwnedFd, name: &Path, directory: &OwnedFd) -> io::Result<()> {
    for entry in fs::read_dir(descriptor_path(directory))? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    // It is empty now. If another directory has its name, that one is removed only if it is empty.
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns a path that leads to this open directory, even if it was renamed.
fn descriptor_path(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn parent() -> tempfile::TempDir {
        tempfile::tempdir().expect("make a directory")
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("list the directory");
        let name = |it: io::Result<fs::DirEntry>| it.expect("read it").file_name();
        entries.map(|it| name(it).to_string_lossy().into_owned()).collect()
    }

    fn own_name() -> String {
        format!("{}-{}", program_name().expect("there is a program"), WorkerId::random())
    }

    /// Makes a directory as a killed run leaves it.
    fn left_behind(parent: &Path, mode: u32) -> PathBuf {
        let path = parent.join(own_name());
        fs::create_dir_all(path.join("folder/inner")).expect("make directories");
        fs::write(path.join("folder/file"), "text").expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set the mode");
        path
    }

    #[test]
    fn directory_is_private_and_removed_with_its_files() {
        let parent = parent();
        let directory = PrivateDirectory::create(parent.path()).expect("make a directory");
        let outside = parent.path().join("outside");
        fs::create_dir(&outside).expect("make a directory");
        fs::write(outside.join("file"), "text").expect("write a file");
        fs::create_dir_all(directory.path().join("a/b")).expect("make directories");
        symlink(&outside, directory.path().join("link")).expect("make a link");
        symlink(&outside, directory.path().join("a/b/link")).expect("make a link");

        let mode = fs::metadata(directory.path()).expect("it exists").permissions().mode();
        drop(directory);

        assert_eq!(mode & 0o7777, 0o700);
        assert_eq!(names(parent.path()), ["outside"]);
        assert_eq!(names(&outside), ["file"]);
    }

    #[test]
    fn directory_of_killed_run_is_removed_and_that_of_live_run_is_kept() {
        let parent = parent();
        let live = PrivateDirectory::create(parent.path()).expect("make a directory");
        fs::write(live.path().join("file"), "text").expect("write a file");
        let left = left_behind(parent.path(), 0o700);

        let next = PrivateDirectory::create(parent.path()).expect("make a directory");

        assert!(!left.exists());
        assert!(live.path().join("file").exists());
        assert_eq!(names(parent.path()).len(), 2);
        drop((next, live));
        assert_eq!(names(parent.path()).len(), 0);
    }

    #[test]
    fn files_and_directories_that_are_not_ours_are_kept() {
        let parent = parent();
        let public = left_behind(parent.path(), 0o755);
        let target = parent.path().join("target");
        fs::create_dir(&target).expect("make a directory");
        fs::write(target.join("file"), "text").expect("write a file");
        fs::write(parent.path().join(own_name()), "text").expect("write a file");
        symlink(&target, parent.path().join(own_name())).expect("make a link");
        let other = parent.path().join(format!("other-{}", WorkerId::random()));
        fs::create_dir(&other).expect("make a directory");
        fs::create_dir(parent.path().join(own_name() + "0")).expect("make a directory");
        let before = names(parent.path()).len();

        drop(PrivateDirectory::create(parent.path()).expect("make a directory"));

        assert_eq!(names(parent.path()).len(), before);
        assert!(public.join("folder/file").exists() && target.join("file").exists());
    }

    #[test]
    fn parent_in_which_all_users_may_replace_files_is_refused() {
        let parent = parent();
        let set_mode = |mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(parent.path(), mode).expect("set the mode");
        };

        set_mode(0o777);
        let refused = PrivateDirectory::create(parent.path());
        set_mode(0o1777);
        let accepted = PrivateDirectory::create(parent.path());

        let refused = refused.expect_err("it is refused").to_string();
        assert_eq!(refused, "all users may replace files in it (set its sticky bit)");
        assert!(accepted.is_ok());
    }

    #[test]
    fn many_starts_at_once_remove_no_directory_in_use() {
        let parent = parent();
        for _ in 0..8 {
            left_behind(parent.path(), 0o700);
        }

        let directories: Vec<_> = std::thread::scope(|scope| {
            let start = || PrivateDirectory::create(parent.path()).expect("make a directory");
            let starts: Vec<_> = (0..16).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|it| it.join().expect("no panic")).collect()
        });

        assert!(directories.iter().all(|it| it.path().is_dir()));
        let in_use = directories.len();
        drop(PrivateDirectory::create(parent.path()).expect("make a directory"));
        assert_eq!(names(parent.path()).len(), in_use);
    }
}
