//! Listening Unix sockets that leave no file behind.
//!
//! Binding a socket creates a file. The process that creates a listener unlinks the file at once
//! and keeps a descriptor of it, so that other processes reach it as `/proc/<pid>/fd/<descriptor>`.
//! The process id in this path is that of the mounted `/proc`. The kernel removes the file with the
//! last descriptor, however the process ends.

use std::fs::read_link;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmod, fstat, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{bind, listen, socket_with};

use super::bind_record::{BindRecord, file_name, is_own_socket};
use super::proc_pid::proc_pid;
use crate::wire::WorkerId;

/// The number of connections that may wait to be accepted. The kernel limits it further
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Keeps a listener reachable by its [`path`](Self::path), until it is dropped.
///
/// The process that holds it need not be the one that accepts connections. If no process listens
/// any more, connecting fails with an error.
pub(crate) struct Address {
    #[cfg_attr(not(test), expect(dead_code, reason = "the path leads to it while it is open"))]
    file: OwnedFd,
    path: PathBuf,
}

impl Address {
    /// Creates a listener for a worker, and its address.
    ///
    /// # Errors
    ///
    /// This process is not in `/proc`, or the socket cannot be created in the directory for
    /// temporary files. The error names the directory.
    pub(crate) fn of_new_listener(worker: WorkerId) -> io::Result<(OwnedFd, Self)> {
        let pid = proc_pid()?;
        let directory = temporary_directory();
        let made = listen_in(&directory, worker).map_err(|error| {
            let directory = directory.display();
            let why = format!(
                "failed to create a socket in `{directory}` (set TMPDIR to use another directory): \
                 {error}"
            );
            io::Error::new(error.kind(), why)
        });
        let (listener, file) = made?;
        let path = path_of(pid, &file);
        Ok((listener, Self { file, path }))
    }

    /// Returns the path to connect to. Only processes of the same user can connect.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

/// Returns the id of the process that holds the [`Address`] of a worker with this path; `None` if
/// no process does, or another file is at the path.
pub(crate) fn address_owner(path: &Path, worker: WorkerId) -> Option<u32> {
    let process = path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()?;
    // The kernel appends this to the path of an unlinked file.
    let name = format!("{} (deleted)", file_name(worker));
    read_link(path).ok()?.ends_with(name).then_some(process)
}

/// Returns the directory for temporary files: `TMPDIR`, or `/tmp` if that is empty or not set.
fn temporary_directory() -> PathBuf {
    let directory = std::env::temp_dir();
    if directory.as_os_str().is_empty() { "/tmp".into() } else { directory }
}

fn path_of(pid: u32, descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/{}", descriptor.as_raw_fd()))
}

/// Returns a path of a descriptor that only this process can use.
fn own_path_of(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// Creates a listener, and returns it and its file.
fn listen_in(directory: &Path, worker: WorkerId) -> io::Result<(OwnedFd, OwnedFd)> {
    let found = OFlags::PATH | OFlags::CLOEXEC;
    let directory = openat(CWD, directory, found | OFlags::DIRECTORY, Mode::empty())?;
    let name = file_name(worker);
    let listener =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;

    let record = BindRecord::create(&directory, &name)?;
    // A socket path is limited to 107 bytes, and the path of the directory may be longer.
    bind(&listener, &SocketAddrUnix::new(own_path_of(&directory).join(&name))?)?;
    let file = openat(&directory, &name, found | OFlags::NOFOLLOW, Mode::empty());
    unlinkat(&directory, &name, AtFlags::empty())?;
    drop(record);

    let file = file?;
    if !is_own_socket(&fstat(&file)?) {
        return Err(io::Error::other("another process has replaced the file of the socket"));
    }
    // Sets the mode regardless of the umask. No process can connect before `listen`.
    chmod(own_path_of(&file), Mode::RUSR | Mode::WUSR)?;
    listen(&listener, BACKLOG)?;
    Ok((listener, file))
}

/// Returns whether an error of `connect` means that no process listens at a former path of an
/// [`Address`]. Its process has ended or has dropped it, and both numbers in the path may have been
/// reused since.
pub(super) fn is_stale(path: &Path, error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(
            Errno::NOENT
            | Errno::SRCH
            | Errno::CONNREFUSED
            | Errno::NOTSOCK
            | Errno::PROTOTYPE
            | Errno::NXIO
            | Errno::LOOP,
        ) => true,
        // If the link can be read, the path leads to a file without write permission, which is not
        // the listener. Otherwise the process belongs to another user, and may be the right one.
        Some(Errno::ACCESS) => read_link(path).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn listener() -> (UnixListener, Address) {
        let (listener, address) =
            Address::of_new_listener(WorkerId::random()).expect("there is a directory");
        (listener.into(), address)
    }

    #[test]
    fn connecting_by_address_reaches_listener() {
        let (listener, address) = listener();

        let mut here = UnixStream::connect(address.path()).expect("it listens");
        here.write_all(b"hello").expect("a socket takes five bytes");

        let (mut there, _) = listener.accept().expect("a client has connected");
        let mut hello = [0; 5];
        there.read_exact(&mut hello).expect("five bytes are there");
        assert_eq!(&hello, b"hello");
    }

    #[test]
    fn listener_is_private_socket_without_name() {
        let (_listener, address) = listener();

        let file = fs::metadata(address.path()).expect("it is open");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o7777, 0o600);
        let name = read_link(address.path()).expect("it is open");
        assert!(name.to_string_lossy().ends_with(" (deleted)"), "{}", name.display());
    }

    #[test]
    fn path_names_process_that_holds_listener() {
        let worker = WorkerId::random();
        let (_listener, address) = Address::of_new_listener(worker).expect("there is a directory");

        assert_eq!(address_owner(&address.path(), worker), Some(std::process::id()));
        assert_eq!(address_owner(&address.path(), WorkerId::random()), None);
        assert_eq!(address_owner(Path::new("/proc/4194305/fd/3"), worker), None);
    }

    #[test]
    fn child_process_inherits_no_listener() {
        let (listener, Address { file, .. }) = listener();

        for descriptor in [listener.into(), file] {
            let flags = rustix::io::fcntl_getfd(descriptor).expect("it is open");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn listener_works_in_directory_with_long_path() {
        let directory = std::env::temp_dir().join("x".repeat(150));
        fs::create_dir_all(&directory).expect("make a directory");

        let listening = listen_in(&directory, WorkerId::random());

        // Fails if a file is left in the directory.
        fs::remove_dir(&directory).expect("it is empty");
        let (_listener, file) = listening.map_err(|it| it.to_string()).expect("it listens");
        UnixStream::connect(own_path_of(&file)).expect("it listens");
    }

    #[test]
    fn address_of_dropped_listener_is_stale() {
        let (listener, address) = listener();

        drop(listener);

        let error = UnixStream::connect(address.path()).expect_err("the listener is closed");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(is_stale(&address.path(), &error));
    }

    #[test]
    fn address_leading_to_another_file_is_stale() {
        let (socket, _other) = UnixStream::pair().expect("two sockets");
        let file = fs::File::open("/proc/self/stat").expect("there is a /proc");
        let directory = fs::File::open("/").expect("there is a root");
        let own = std::process::id();
        let paths = [
            path_of(own, &socket.into()),
            path_of(own, &file.into()),
            path_of(own, &directory.into()),
            format!("/proc/{own}/fd/1000000").into(),
            "/proc/4194305/fd/3".into(),
        ];

        for path in paths {
            let error = UnixStream::connect(&path).expect_err("no listener has this path");
            assert!(is_stale(&path, &error), "{}: {error:?}", path.display());
        }
    }

    #[test]
    fn access_error_is_stale_only_for_readable_link() {
        let (_listener, address) = listener();
        let refused = || Errno::ACCESS.into();

        assert!(is_stale(&address.path(), &refused()));
        assert!(!is_stale(Path::new("/proc/4194305/fd/3"), &refused()));
    }

    #[test]
    fn failed_bind_names_directory() {
        let error = listen_in(Path::new("/there/is/no/such/directory"), WorkerId::random()).err();

        assert_eq!(error.map(|it| it.kind()), Some(ErrorKind::NotFound));
    }
}
