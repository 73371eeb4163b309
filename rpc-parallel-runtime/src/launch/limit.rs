//! What the system grants a worker, and no more.

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::wire::fields;

/// How much of something the system grants a worker.
///
/// One number is both limits of the system: the *soft* one, which it enforces, and the *hard* one,
/// up to which the worker may raise it again. [`hard`](Self::hard) gives the second a number of its
/// own. Only a privileged process may have more than its master.
///
/// A limit holds for whatever the worker starts, too.
///
/// ```
/// use rpc_parallel::launch::ResourceLimit;
///
/// let limits = [ResourceLimit::memory(2 << 30), ResourceLimit::open_files(256).hard(1024)];
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceLimit {
    of: Limited,
    soft: u64,
    hard: u64,
}

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limited {
    Memory,
    Data,
    Stack,
    LockedMemory,
    CpuSeconds,
    FileSize,
    CoreSize,
    OpenFiles,
    Processes,
}

fields!(struct ResourceLimit { of, soft, hard });
fields!(enum Limited {
    0 => Memory,
    1 => Data,
    2 => Stack,
    3 => LockedMemory,
    4 => CpuSeconds,
    5 => FileSize,
    6 => CoreSize,
    7 => OpenFiles,
    8 => Processes,
});

impl ResourceLimit {
    /// No limit.
    pub const UNLIMITED: u64 = u64::MAX;

    /// Limits the address space, in bytes: all that is mapped, whether it is used or not.
    ///
    /// A worker that allocates beyond it aborts. Its own threads need some of it: tens of MiB.
    #[must_use]
    pub fn memory(bytes: u64) -> Self {
        Self::new(Limited::Memory, bytes)
    }

    /// Limits the private memory that can be written to, in bytes: the heap, above all.
    #[must_use]
    pub fn data(bytes: u64) -> Self {
        Self::new(Limited::Data, bytes)
    }

    /// Limits the stack of the main thread, in bytes.
    ///
    /// Functions run there unless the worker's runtime has several threads.
    #[must_use]
    pub fn stack(bytes: u64) -> Self {
        Self::new(Limited::Stack, bytes)
    }

    /// Limits the memory that can be kept from being swapped out, in bytes.
    #[must_use]
    pub fn locked_memory(bytes: u64) -> Self {
        Self::new(Limited::LockedMemory, bytes)
    }

    /// Limits the processor time, in seconds.
    ///
    /// A worker that has used them up is sent SIGXCPU, which kills it unless it does something about
    /// it; at the hard limit it is killed in any case.
    #[must_use]
    pub fn cpu_seconds(seconds: u64) -> Self {
        Self::new(Limited::CpuSeconds, seconds)
    }

    /// Limits the size of files, in bytes: a worker that writes beyond it is sent SIGXFSZ.
    #[must_use]
    pub fn file_size(bytes: u64) -> Self {
        Self::new(Limited::FileSize, bytes)
    }

    /// Limits the size of a core dump, in bytes; with 0 there is none.
    #[must_use]
    pub fn core_size(bytes: u64) -> Self {
        Self::new(Limited::CoreSize, bytes)
    }

    /// Limits how many files, sockets and pipes are open at once.
    ///
    /// A worker itself needs about 20.
    #[must_use]
    pub fn open_files(count: u64) -> Self {
        Self::new(Limited::OpenFiles, count)
    }

    /// Limits how many processes and threads the user of this process may have when the worker
    /// makes another one, which then fails. It does not hold for the privileged.
    #[must_use]
    pub fn processes(count: u64) -> Self {
        Self::new(Limited::Processes, count)
    }

    /// Sets up to where the worker itself may raise the limit.
    #[must_use]
    pub fn hard(self, hard: u64) -> Self {
        Self { hard, ..self }
    }

    fn new(of: Limited, limit: u64) -> Self {
        Self { of, soft: limit, hard: limit }
    }

    /// Says whether both limit the same.
    pub(crate) fn concerns(&self, other: &Self) -> bool {
        self.of == other.of
    }

    /// Sets this limit of this process.
    pub(super) fn set(&self) -> io::Result<()> {
        let resource = match self.of {
            Limited::Memory => Resource::As,
            Limited::Data => Resource::Data,
            Limited::Stack => Resource::Stack,
            Limited::LockedMemory => Resource::Memlock,
            Limited::CpuSeconds => Resource::Cpu,
            Limited::FileSize => Resource::Fsize,
            Limited::CoreSize => Resource::Core,
            Limited::OpenFiles => Resource::Nofile,
            Limited::Processes => Resource::Nproc,
        };
        let [current, maximum] =
            [self.soft, self.hard].map(|it| (it != Self::UNLIMITED).then_some(it));
        Ok(setrlimit(resource, Rlimit { current, maximum })?)
    }
}

impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = match self.of {
            Limited::Memory => ("memory", " bytes"),
            Limited::Data => ("data", " bytes"),
            Limited::Stack => ("stack", " bytes"),
            Limited::LockedMemory => ("locked memory", " bytes"),
            Limited::CpuSeconds => ("processor time", " s"),
            Limited::FileSize => ("file size", " bytes"),
            Limited::CoreSize => ("core size", " bytes"),
            Limited::OpenFiles => ("open files", ""),
            Limited::Processes => ("processes", ""),
        };
        let number = |it| match it {
            Self::UNLIMITED => "unlimited".to_owned(),
            number => format!("{number}{unit}"),
        };
        write!(f, "{what} {}", number(self.soft))?;
        if self.hard != self.soft {
            write!(f, " (hard: {})", number(self.hard))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_what_it_limits_and_to_how_much() {
        let limits = [
            ResourceLimit::memory(2 << 30),
            ResourceLimit::open_files(256).hard(1024),
            ResourceLimit::cpu_seconds(10).hard(ResourceLimit::UNLIMITED),
        ];

        let said = limits.map(|it| it.to_string());

        let expected = [
            "memory 2147483648 bytes",
            "open files 256 (hard: 1024)",
            "processor time 10 s (hard: unlimited)",
        ];
        assert_eq!(said, expected);
    }
}
