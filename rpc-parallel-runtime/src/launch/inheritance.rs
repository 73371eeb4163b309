//! What a worker that is executed inherits from its master at its start, for a worker that is
//! forked from an earlier state of the master.
//!
//! ```text
//! length:4 message..
//! ```
//!
//! It is sent over the control socket before the start message. A snapshot process keeps what it has
//! itself in the same form, so that a worker that inherits the same changes nothing.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};

use rpc_parallel_os::replace_variables;
use rustix::fs::{Mode, RawMode};
use rustix::process::{
    Resource, Rlimit, getegid, geteuid, getgid, getrlimit, getuid, setrlimit, umask,
};

use super::start_failure::StartFailure;
use crate::wire::{MalformedMessage, Sink, TooLarge, fields, read_message, write_message};

/// The length of the prefix, in bytes.
pub(super) const PREFIX_LEN: usize = 4;

/// The maximum length of the message, in bytes. The kernel allows 6 MiB for the environment of a
/// program.
const MAX_LEN: usize = 8 << 20;

/// The attributes of a process that it inherits, apart from its descriptors and its directory.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Inheritance {
    environment: Vec<Variable>,
    /// `None` if the kernel does not tell it.
    umask: Option<u32>,
    /// In the order of [`RESOURCES`].
    limits: Vec<Limit>,
    ids: Ids,
}

#[derive(Clone, PartialEq, Debug)]
struct Variable {
    name: OsString,
    value: OsString,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
}

/// The user and the group of a process: real and effective.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Ids {
    user: u32,
    effective_user: u32,
    group: u32,
    effective_group: u32,
}

fields!(struct Inheritance { environment, umask, limits, ids });
fields!(struct Variable { name, value });
fields!(struct Limit { soft, hard });
fields!(struct Ids { user, effective_user, group, effective_group });

const RESOURCES: [Resource; 15] = [
    Resource::As,
    Resource::Core,
    Resource::Cpu,
    Resource::Data,
    Resource::Fsize,
    Resource::Locks,
    Resource::Memlock,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Nofile,
    Resource::Nproc,
    Resource::Rss,
    Resource::Rtprio,
    Resource::Sigpending,
    Resource::Stack,
];

impl Inheritance {
    /// Collects what a worker of this process inherits, with these changes to the environment.
    pub(super) fn of_this_process<'a>(
        clears_environment: bool,
        changes: impl Iterator<Item = (&'a OsStr, Option<&'a OsStr>)>,
    ) -> Self {
        let mut environment = Vec::new();
        if !clears_environment {
            environment.extend(env::vars_os().map(|(name, value)| Variable { name, value }));
        }
        for (name, value) in changes {
            environment.retain(|it| it.name != name);
            if let Some(value) = value {
                environment.push(Variable { name: name.to_owned(), value: value.to_owned() });
            }
        }
        Self {
            environment,
            umask: own_umask(),
            limits: RESOURCES.map(limit).to_vec(),
            ids: Ids::here(),
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        let mut bytes = vec![0; PREFIX_LEN];
        let mut sink = Sink::new(&mut bytes, MAX_LEN);
        write_message(self, &mut sink);
        sink.finish()?;
        let len = u32::try_from(bytes.len() - PREFIX_LEN).expect("`MAX_LEN` is below 4 GiB");
        bytes[..PREFIX_LEN].copy_from_slice(&len.to_le_bytes());
        Ok(bytes)
    }

    /// Decodes the length of the message.
    pub(super) fn decode_len(prefix: [u8; PREFIX_LEN]) -> Result<usize, TooLarge> {
        let size = u32::from_le_bytes(prefix) as usize;
        if size > MAX_LEN { Err(TooLarge { size, max: MAX_LEN }) } else { Ok(size) }
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, MalformedMessage> {
        read_message(message)
    }

    /// Applies the attributes to this process, which must have a single thread.
    pub(super) fn apply(self) -> Result<(), StartFailure> {
        if self.ids != Ids::here() {
            let why = "they have changed in the master since the snapshot was taken";
            return Err(failure("use its user and group")(io::Error::other(why)));
        }
        let variables: Vec<_> =
            self.environment.into_iter().map(|it| (it.name, it.value)).collect();
        let replaced = replace_variables(&variables).map_err(io::Error::other);
        replaced.map_err(failure("set its environment"))?;
        if let Some(mask) = self.umask {
            umask(Mode::from_raw_mode(mask as RawMode));
        }
        for (resource, wanted) in RESOURCES.into_iter().zip(self.limits) {
            if limit(resource) != wanted {
                let new = Rlimit { current: wanted.soft, maximum: wanted.hard };
                let set = setrlimit(resource, new).map_err(io::Error::from);
                set.map_err(failure("set the resource limits of its master"))?;
            }
        }
        Ok(())
    }
}

impl Ids {
    fn here() -> Self {
        Self {
            user: getuid().as_raw(),
            effective_user: geteuid().as_raw(),
            group: getgid().as_raw(),
            effective_group: getegid().as_raw(),
        }
    }
}

fn limit(resource: Resource) -> Limit {
    let Rlimit { current, maximum } = getrlimit(resource);
    Limit { soft: current, hard: maximum }
}

/// Returns the umask. The system call that returns it also changes it, for all threads.
fn own_umask() -> Option<u32> {
    // It is the second line. Each read takes as long as the whole file.
    let mut status = [0; 256];
    let len = File::open("/proc/self/status").and_then(|mut it| it.read(&mut status)).ok()?;
    let status = String::from_utf8_lossy(&status[..len]);
    let mask = status.lines().find_map(|it| it.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

fn failure(tried: &str) -> impl FnOnce(io::Error) -> StartFailure {
    move |error| StartFailure::SetUp { tried: tried.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_inheritance_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = Inheritance::decode(&bytes);
        }
    }

    #[test]
    fn encoded_inheritance_is_decoded() {
        let changes = [("ADDED", Some("a=b")), ("PATH", None)];
        let changes = changes.map(|(name, value)| (OsStr::new(name), value.map(OsStr::new)));
        let inheritance = Inheritance::of_this_process(false, changes.into_iter());

        let bytes = inheritance.encode().expect("the environment is small");

        let (prefix, message) = bytes.split_first_chunk().expect("it has a prefix");
        assert_eq!(Inheritance::decode_len(*prefix), Ok(message.len()));
        assert_eq!(Inheritance::decode(message), Ok(inheritance));
    }

    #[test]
    fn changes_apply_to_cleared_environment() {
        let changes = [(OsStr::new("ADDED"), Some(OsStr::new("x")))];

        let inheritance = Inheritance::of_this_process(true, changes.into_iter());

        let added = Variable { name: "ADDED".into(), value: "x".into() };
        assert_eq!(inheritance.environment, [added]);
    }

    #[test]
    fn too_long_message_is_refused() {
        let prefix = u32::MAX.to_le_bytes();

        let error = Inheritance::decode_len(prefix).expect_err("the limit is 8 MiB");

        assert_eq!(error.max, MAX_LEN);
    }
}
